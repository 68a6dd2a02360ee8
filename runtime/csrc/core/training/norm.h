// A normalization by the batch between two layers of a training step: y of one becomes codes of the next in one pass,
// and the gradient of what was quantized becomes that of y.
//
//   v = fma(y, scale, shift) of each channel; where it pools, the largest of each window of 2 x 2; then
//   codes = round(clip(v, 0, 1) * levels)
//
// What is kept for the way back is y itself, the codes, the bits of the mask and the winners of the windows.
#pragma once
#include <cstdint>
#include <vector>

#include "core/training/scratch.h"
#include "core/training/shape.h"
#include "core/training_norm_kernels.h"

namespace bitorch {

// Those whose name that of the training kernels begins with. Error: there are none.
const TrainingNormKernels& training_norm_kernels(const TrainingKernels& kernels);

// Those that this CPU can run, slowest first.
std::vector<const TrainingNormKernels*> available_training_norm_kernels();

// y [batch][in.rows][in.columns][channels], and whether windows of 2 x 2, two apart, follow.
struct NormShape {
  int64_t batch;
  Extent in;
  int64_t channels;
  bool pools;

  Extent out() const { return pools ? Extent{in.rows / 2, in.columns / 2} : in; }
  int64_t inputs() const { return in.rows * in.columns * channels; }  // numbers of one sample
  int64_t outputs() const { return out().rows * out().columns * channels; }
};

// Mean and mean squared deviation of each channel of y [pixels][channels], pixels >= 1. The sums of runs of pixels are
// of floats, those of all runs of doubles: the number of threads does not matter.
void channel_moments(const TrainingNormKernels& kernels, const float* y, int64_t pixels, int64_t channels, int threads,
                     double* mean, double* variance);

struct NormInput {
  const TrainingNormKernels* kernels;
  NormShape shape;
  const float* y;
  const float *scale, *shift;  // [channels]
  bool positive;               // whether the mask is 0 < v <= 1, as behind a ReLU, or 0 <= v <= 1
  uint8_t* winners;            // [batch][out.rows][out.columns][channels]; null where nothing asks for them
};

// Makes the codes of one sample after the other.
class NormQuantizer {
 public:
  NormQuantizer(const NormInput& input, int levels);

  // What one thread works in.
  struct Room {
    Scratch<float> largest;
    Scratch<uint8_t> winners;
  };
  Room make_room() const;

  // codes [outputs()], and the bits of the mask where there is room for them.
  void run(const Room& room, int64_t sample, uint8_t* codes, uint8_t* mask) const;

 private:
  void pool(const Room& room, int64_t sample) const;

  const NormInput& a_;
  float levels_;
  Scratch<float> scale_, shift_, ones_, zeros_;  // periodic
};

struct NormBackwardArgs {
  const TrainingNormKernels* kernels;
  NormShape shape;
  const float* dv;  // [batch][out.rows][out.columns][channels], 0 where the mask is
  const float* y;
  const uint8_t* winners;        // where it pools
  const double *mean, *inverse;  // [channels]: inverse = 1 / sqrt(variance + eps)
  const float* gamma;            // [channels]; null for ones
  float* dy;                     // [batch][in.rows][in.columns][channels]; dv itself where it does not pool
  float *dgamma, *dbeta;         // [channels]
  int threads;
};

// With x = (y - mean) * inverse, r = inverse * gamma and M pixels: dbeta = sum of dv, dgamma = sum of dv * x,
// dy = r * (dv - dbeta / M - x * dgamma / M).
void norm_backward(const NormBackwardArgs& args);

}  // namespace bitorch
