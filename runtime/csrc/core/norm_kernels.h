// What a kernel file gives normalisations and reductions. Its rules are those of kernels.h: nothing that could be
// emitted into an object file.
//
// Many numbers are added in double, in one order on every CPU: number i of a list belongs to lane i mod 32; each lane
// adds up its numbers one after the other, from 0 on; then lane l takes lane l + 16, l + 8, l + 4, l + 2, l + 1.
// Largest and smallest numbers are found in the same order, which decides between -0 and 0.
//
//   list    0 1 2 .. 31 | 32 33 .. 63 | 64 ..         lanes    0 .. 15 | 16 .. 31
//   lane    0 1 2 .. 31 |  0  1 .. 31 |  0 ..                  0 .. 15 <- added to each, then 8, 4, 2, 1
#pragma once
#include <cstdint>

namespace bitorch {

constexpr int kSumLanes = 32;

// What numbers x are divided by, and what is taken from them before.
enum NormalizeBy : int {
  kDeviation = 0,       // (x - mean) / sqrt(mean of (x - mean)^2, plus eps)
  kRootMeanSquare = 1,  // x / sqrt(mean of x^2, plus eps)
  kNorm = 2,            // x / max(sqrt(sum of x^2), eps)
};

// Each pixel by itself, or each of `groups` runs of its channels: out = (in - m) * factor * weight[c] + bias[c], every
// step rounded to float32, m = float32(mean), factor = factor_of(..). The sum of squares is one of float32: of in - m,
// in lanes; what 512 numbers give is added in double, lane by lane. What the rounding of m adds to it is taken away
// again, in double: n * (mean - m)^2.
struct NormalizePixels {
  const float* in;  // [pixels][channels], and so out
  float* out;
  const float* weight;  // [channels]; or null
  const float* bias;    // [channels]; or null
  int64_t pixels, channels, groups;
  int32_t by;  // a NormalizeBy
  float eps;
};

// out[p][c] = (in[p][c] - mean[c]) * factor[c] * weight[p][c] + bias[p][c], every step rounded.
struct StandardizePixels {
  const float* in;  // [pixels][channels], and so out
  float* out;
  const float* mean;               // [channels]
  const float* factor;             // [channels]
  const float* weight;             // of the first pixel; or null
  const float* bias;               // of the first pixel; or null
  int64_t weight_step, bias_step;  // floats from those of one pixel to those of the next: channels, or 0
  int64_t pixels, channels;
};

struct NormKernels {
  // Of one list, in lanes.
  double (*sum)(const float* in, int64_t n);
  double (*sum_of_doubles)(const double* in, int64_t n);
  double (*squares)(const float* in, double mean, int64_t n);      // of (in[i] - mean)
  float (*extreme)(const float* in, int64_t n, int32_t smallest);  // the largest or smallest; NaN wins; n >= 1
  // Of each channel, pixel after pixel.
  void (*add_columns)(double* sums, const float* in, int64_t step, int64_t pixels, int64_t n);
  void (*add_squares)(double* sums, const double* mean, const float* in, int64_t step, int64_t pixels, int64_t n);
  // out[i] becomes in[i] where that is larger (smaller), or NaN.
  void (*extreme_columns)(float* out, const float* in, int64_t n, int32_t smallest);
  // The same, and then index[i] becomes `at`; but a NaN that is there stays.
  void (*extreme_places)(float* out, int32_t* index, const float* in, int32_t at, int64_t n, int32_t smallest);
  // What numbers are multiplied with, by the sum of their squares, or of those of their differences from the mean.
  float (*factor_of)(int32_t by, double squares, double count, float eps);
  void (*normalize)(const NormalizePixels*);
  void (*standardize)(const StandardizePixels*);
};

extern const NormKernels kPortableNorms;
extern const NormKernels kAvx2Norms;
extern const NormKernels kAvx512Norms;
extern const NormKernels kNeonNorms;

}  // namespace bitorch
