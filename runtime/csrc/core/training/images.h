// Codes of one sample, moved from a run of numbers to where the kernels read them.
#pragma once
#include <cstdint>

#include "core/training/scratch.h"
#include "core/training/shape.h"

namespace bitorch {

// An image with room for the padding of columns: [rows][width][channels rounded up to 4]. Rows of padding need none,
// as no sum runs over them; the channels that a pixel is filled up with are multiplied by zeros.
struct Image {
  int64_t rows, columns, channels;
  int64_t left, width;  // columns before the first, and in all
  int64_t pixel() const { return (channels + 3) / 4 * 4; }
  int64_t row() const { return width * pixel(); }
  int64_t bytes() const { return rows * row(); }
};

// The byte `zero` where put_image() writes nothing.
void clear_image(const Image& image, uint8_t zero, uint8_t* out);
// codes [rows][columns][of which the first image.channels are taken]; step: bytes from pixel to pixel.
void put_image(const Image& image, const uint8_t* codes, int64_t step, uint8_t* out);

// For each pixel the sum of its channels, [rows][width].
void sum_pixels(const Image& image, const uint8_t* in, int32_t* out);

// codes [in.rows][in.columns][in_channels] as SavedLayout has them; `zero` is the byte of padding.
void put_planes(const TrainingKernels& kernels, const ConvShape& shape, const SavedLayout& layout, const uint8_t* codes,
                uint8_t zero, uint8_t* out);

// Sums over what each tap meets in all output pixels. A row of a channel is a window, and a tap of the kernel's row an
// output channel that has ones where the tap goes: products like any others.
class TapSums {
 public:
  TapSums(const TrainingKernels& kernels, const ConvShape& shape, const SavedLayout& layout);
  int64_t scratch() const { return s_.in.rows * s_.in_channels * s_.kernel.columns; }
  // sums [kernel.rows][in_channels][kernel.columns], of one sample's planes, bytes up to `largest`; rows: scratch()
  // numbers.
  void run(const uint8_t* planes, int32_t largest, int32_t* rows, int32_t* sums) const;

 private:
  const TrainingKernels& kernels_;
  const ConvShape& s_;
  int64_t steps_;
  Scratch<int8_t> ones_;  // [blocks of taps][steps][64][4]
};

// The gradient's codes [out.rows][out.columns][of which the first out_channels are taken], pixels `step` bytes apart,
// as [blocks of channels][rows][columns / 4, rounded up][64][4].
void put_groups(const TrainingKernels& kernels, const ConvShape& shape, const int8_t* codes, int64_t step, int8_t* out);
int64_t groups_bytes(const ConvShape& shape);

}  // namespace bitorch
