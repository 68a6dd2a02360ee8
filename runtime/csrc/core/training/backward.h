// Gradients of a low-bit convolution from the few-bit codes of the gradient of y.
#pragma once
#include <cstdint>

#include "core/training/gradient_spec.h"
#include "core/training/input.h"
#include "core/training/shape.h"
#include "core/training/weight_codes.h"

namespace bitorch {

// Integers i of all samples, [samples][numbers], value code(i) * scale[sample]; scale is the sample's largest |g| /
// n(), 0 where that is below 2^-120, and NaN where a g is not finite, whose integers are 0.
void gradient_codes(const TrainingKernels& kernels, const GradientSpec& spec, const float* g, int64_t samples,
                    int64_t numbers, int threads, int8_t* codes, float* scale);

struct BackwardArgs {
  const TrainingKernels* kernels;
  ConvShape shape;
  GradientSpec gradient;
  const float* g;
  const WeightCodes* weight;  // where there is a dx
  float weight_scale;
  const uint8_t* saved;
  bool masked;
  InputCodes input;
  float input_scale;
  float* dx;     // or null
  float* dw;     // [out_channels][kernel.rows][kernel.columns][in_channels], or null
  float* dbias;  // [out_channels], or null
  int threads;
};

// Error: sums may leave int32.
void conv_backward(const BackwardArgs& args);
// The same for what linear_forward saved.
void linear_backward(const BackwardArgs& args);

}  // namespace bitorch
