// What a kernel file gives training steps that normalize by the batch on the way to a quantizer (core/training/norm.h).
// Its rules are those of kernels.h: nothing that could be emitted into an object file.
//
// All tables give the same bits: each sum runs over pixels in their order, and every float is one rounded operation, or
// fma, that is said here. Arrays of one number for each channel are "periodic" where a run of numbers has any length:
// entry i is that of channel i % channels, for channels + 63 entries.
#pragma once
#include <cstdint>

namespace bitorch {

// Of each channel of x [pixels][channels], pixels >= 1: mean = (sum of x) / pixels, and with d = x - mean the sums of d
// and of d * d, the latter by fma.
struct ChannelMoments {
  const float* x;
  int64_t pixels, channels;
  float *mean, *sum, *squares;
};

// v = fma(x, scale, shift) of a run that begins with channel 0: codes round(clip(v, 0, 1) * levels), half to even, and
// 0 of a NaN. Bit i of `inside`, when not null, says 0 <= v[i] <= 1, and 0 < v[i] with `positive`; bits up to the next
// multiple of 8 are 0.
struct AffineQuantize {
  const float* x;
  int64_t n, channels;
  const float *scale, *shift;  // periodic
  float levels;
  bool positive;
  uint8_t* codes;
  uint8_t* inside;
};

// The largest of fma(x, scale, shift) in windows of 2 x 2 of two rows, and which one that is: the first of the largest,
// 0, 1 of the upper row, 2, 3 of the lower one; the last NaN, if there is one.
struct AffinePool {
  const float *upper, *lower;  // [2 * pixels][channels]
  int64_t pixels, channels;
  const float *scale, *shift;  // [channels]
  float* largest;              // [pixels][channels], and so winners
  uint8_t* winners;
};

// Of each channel the sums of g, and by fma of g * (x - mean).
struct ChannelProducts {
  const float *g, *x;  // [pixels][channels]
  const float* mean;   // [channels]
  int64_t pixels, channels;
  float *sum, *products;
};

// The same of what the winners of the windows of two rows were: x is upper or lower.
struct PoolProducts {
  const float* g;  // [pixels][channels], and so winners
  const uint8_t* winners;
  const float *upper, *lower;  // [2 * pixels][channels]
  const float* mean;           // [channels]
  int64_t pixels, channels;
  float *sum, *products;
};

// out = fma(a, g, fma(b, x - mean, c)) of a run that begins with channel 0; out may be g.
struct NormGradient {
  const float* g;  // null for zeros
  const float* x;
  int64_t n, channels;
  const float *mean, *a, *b, *c;  // periodic
  float* out;
};

// The same of the windows of two rows, where g is 0 but for the winners.
struct PoolGradient {
  const float* g;  // [pixels][channels], and so winners
  const uint8_t* winners;
  const float *upper, *lower;  // [2 * pixels][channels]
  int64_t pixels, channels;
  const float *mean, *a, *b, *c;  // [channels]
  float *out_upper, *out_lower;
};

struct TrainingNormKernels {
  const char* name;
  void (*moments)(const ChannelMoments*);
  void (*quantize)(const AffineQuantize*);
  void (*pool)(const AffinePool*);
  void (*products)(const ChannelProducts*);
  void (*pool_products)(const PoolProducts*);
  void (*gradient)(const NormGradient*);
  void (*pool_gradient)(const PoolGradient*);
};

extern const TrainingNormKernels kPortableTrainingNorm;
extern const TrainingNormKernels kAvx2TrainingNorm;
extern const TrainingNormKernels kAvx512TrainingNorm;

}  // namespace bitorch
