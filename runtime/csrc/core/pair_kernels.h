// Functions of two or three tensors, number by number, of which some are repeated along pixels or channels. Read
// together with kernels.h, which says what such a header may hold.
#pragma once
#include <cstdint>

namespace bitorch {

// Where the numbers of one tensor lie: channel c of pixel p at data[p * pixel_step + c * channel_step]. channel_step is
// 1, or 0 of one number for all channels; pixel_step is 0 of one pixel for all.
struct PairInput {
  const float* data;
  int64_t pixel_step, channel_step;
};

// out[p * out_step + c] = f(a, b), of pixels 0 .. pixels - 1 and channels 0 .. n - 1; where: c != 0 ? a : b. What is
// read there may be what is written there, but nothing else of `out`.
struct PairRow {
  float* out;
  int64_t out_step;  // at least n
  PairInput a, b, c;
  int64_t pixels, n;
};

// The numbers index PairKernels::functions.
enum PairFunction : int {
  kPairAdd = 0,
  kPairSub = 1,
  kPairMul = 2,
  kPairDiv = 3,
  kPairMinimum = 4,  // a where a < b or a is NaN, else b
  kPairMaximum = 5,  // a where a > b or a is NaN, else b
  kPairWhere = 6,
  kPairFunctions = 7,
};

struct PairKernels {
  void (*functions[kPairFunctions])(const PairRow*);
};

}  // namespace bitorch
