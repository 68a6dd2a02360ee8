// Codes of one sample, moved from a run of numbers to where the kernels read them.
#pragma once
#include <cstdint>

#include "core/training/shape.h"

namespace bitorch {

// An image with room for the padding of columns: [rows][width][channels rounded up to 4], zeros around and between.
// Rows of padding need none, as no sum runs over them.
struct Image {
  int64_t rows, columns, channels;
  int64_t left, width;  // columns before the first, and in all
  int64_t pixel() const { return (channels + 3) / 4 * 4; }
  int64_t row() const { return width * pixel(); }
  int64_t bytes() const { return rows * row(); }
};

// Zeros where put_image() writes nothing.
void clear_image(const Image& image, uint8_t* out);
// codes [rows][columns][channels]
void put_image(const Image& image, const uint8_t* codes, uint8_t* out);

// For each pixel the sum of its channels, [rows][width].
void sum_pixels(const Image& image, const uint8_t* in, int32_t* out);

// codes [in.rows][in.columns][in_channels] as SavedLayout has them.
void put_planes(const TrainingKernels& kernels, const ConvShape& shape, const SavedLayout& layout, const uint8_t* codes,
                uint8_t* out);

// sums[r][c][k]: of the codes that tap k of kernel row r meets in all output pixels, channel c; `rows` is scratch of
// in.rows x in_channels x kernel.columns.
void sum_taps(const ConvShape& shape, const SavedLayout& layout, const uint8_t* planes, int32_t* rows, int32_t* sums);

// The gradient's codes [out.rows][out.columns][out_channels] as [blocks of channels][rows][columns / 4, rounded
// up][64][4].
void put_groups(const TrainingKernels& kernels, const ConvShape& shape, const int8_t* codes, int8_t* out);
int64_t groups_bytes(const ConvShape& shape);

}  // namespace bitorch
