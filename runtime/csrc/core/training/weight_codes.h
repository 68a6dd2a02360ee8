// Weight codes as the kernels read them. Codes beyond a byte are halved: c = 2k + 1, and sums become
// 2 * (sum of x k) + (sum of x).
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/array.h"
#include "core/training/scratch.h"
#include "core/training/shape.h"

namespace bitorch {

class WeightCodes {
 public:
  // Of int8, or int16 for odd codes up to 255; [out_channels][kernel.rows][kernel.columns][in_channels / groups].
  // Error: another dtype or number of codes, codes out of range.
  WeightCodes(const ArrayView& codes, const ConvShape& shape);

  bool halved() const { return halved_; }
  int64_t largest() const { return largest_; }  // |c|
  // The largest |product| of one of `level` or less with what of() points to; 1 where all are 0.
  int32_t largest_product(int64_t level) const;
  // The least bits whose odd codes, up to 2^bits - 1, these are; 0 where some are even, or halved.
  int odd_bits() const { return odd_bits_; }

  // Of one output channel's tap, [in_channels / groups]; taps are steps() apart, output channels taps x steps().
  const int8_t* of(int64_t out_channel, int64_t tap) const { return data_ + (out_channel * taps_ + tap) * step_; }
  int64_t step() const { return step_; }  // in_channels / groups, rounded up to 4; the bytes between are 0

  // The sum of c over `count` output channels from `first` on, [taps][in_channels / groups].
  std::vector<int32_t> sums(int64_t first, int64_t count) const;

 private:
  int64_t out_channels_, taps_, channels_, step_;
  bool halved_ = false;
  int64_t largest_ = 0;
  int odd_bits_ = 0;
  const int8_t* data_ = nullptr;
  Scratch<int8_t> own_;
};

// What follows is of the output channels from `first` on of one group, or of all; `shape` is that of the group.

// For y: [blocks of out_channels][kernel.rows][kernel.columns x step / 4][64][4].
Scratch<int8_t> pack_forward(const WeightCodes& codes, const ConvShape& shape, int64_t first);

// Of each output channel the sum of c over the rows of the kernel that are above row r, [kernel.rows + 1][out_channels
// in whole blocks], 0 for those that there are not.
Scratch<int32_t> sums_above(const WeightCodes& codes, const ConvShape& shape, int64_t first);

// The sums that belong to x at the rows, or columns, that are `at` modulo the stride, after padding: a stride of s
// makes s convolutions of the gradient, each with every s-th tap. Taps run in the order of y, which reverses the
// kernel.
struct Phase {
  int64_t first;  // of x
  int64_t count;  // of x, `stride` apart
  int64_t begin;  // of y, that the last tap meets at `first`; one further for each of the next
  int64_t taps, last_tap;
  // In the kernel, tap t of `taps`.
  int64_t tap(int64_t t, int64_t stride) const { return last_tap - t * stride; }
};
std::vector<Phase> phases_of(int64_t in, int64_t kernel, int64_t stride, int64_t padding);

// For dx, of one phase of rows and one of columns:
// [blocks of in_channels][rows.taps][columns.taps x out_channels / 4, rounded up][64][4].
Scratch<int8_t> pack_backward(const TrainingKernels& kernels, const WeightCodes& codes, const ConvShape& shape,
                              int64_t first, const Phase& rows, const Phase& columns);

}  // namespace bitorch
