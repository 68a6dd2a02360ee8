// A convolution of a training step: its sizes, and how what backward needs of x is kept.
#pragma once
#include <cstdint>

#include "core/training_kernels.h"

namespace bitorch {

// x [batch][in.rows][in.columns][in_channels], y [batch][out.rows][out.columns][out_channels], weight codes
// [out_channels][kernel.rows][kernel.columns][in_channels / groups].
struct Extent {
  int64_t rows, columns;
};

struct ConvShape {
  int64_t batch;
  Extent in;
  int64_t in_channels, out_channels;
  Extent kernel, stride, padding;
  int64_t groups = 1;

  Extent out() const;
  int64_t inputs() const { return in.rows * in.columns * in_channels; }  // numbers of one sample
  int64_t outputs() const { return out().rows * out().columns * out_channels; }
  // The convolution that each group is, on slices of the channels.
  ConvShape of_group() const {
    return {batch, in, in_channels / groups, out_channels / groups, kernel, stride, padding};
  }
  int64_t taps() const { return kernel.rows * kernel.columns; }
};

// Error: an extent that is not positive, a negative padding, groups that do not divide the channels, an output without
// pixels, sizes beyond 2^40.
void check_shape(const ConvShape& shape);

// Codes of x, each row of each channel apart, as grad-weight reads them: with the padding of `columns` in place, and
// with one plane for each column modulo the stride that a tap meets, so that four pixels of one tap are four bytes.
//
//   [row][channel][plane][width]    column i of x is byte (i + padding) / stride of plane (i + padding) % stride
//
// Then, where the gradient has a mask, its bits, [row][column][channel], to a whole byte.
struct SavedLayout {
  int64_t planes, width;  // width: a multiple of 4
  int64_t row;            // bytes of all channels
  int64_t codes;          // bytes of one sample's codes
  int64_t mask;           // bytes of one sample's bits, or 0
  int64_t bytes;          // of all samples, and of what kernels may read beyond

  SavedLayout(const ConvShape& shape, bool masked);
  // Byte of the first pixel that tap `column` of a kernel's row meets, in a channel's planes.
  int64_t tap(int64_t column) const { return column % planes * width + column / planes; }
  uint8_t* codes_of(uint8_t* saved, int64_t sample) const { return saved + sample * codes; }
  const uint8_t* codes_of(const uint8_t* saved, int64_t sample) const { return saved + sample * codes; }
  uint8_t* mask_of(uint8_t* saved, int64_t sample) const {
    return mask == 0 ? nullptr : saved + samples_ * codes + sample * mask;
  }
  const uint8_t* mask_of(const uint8_t* saved, int64_t sample) const {
    return mask == 0 ? nullptr : saved + samples_ * codes + sample * mask;
  }

 private:
  int64_t samples_;
};

inline int64_t blocks_of(int64_t channels) { return (channels + kTileChannels - 1) / kTileChannels; }
// Channels of a block that there are.
inline int32_t channels_in(int64_t block, int64_t channels) {
  const int64_t left = channels - block * kTileChannels;
  return static_cast<int32_t>(left < kTileChannels ? left : kTileChannels);
}

}  // namespace bitorch
