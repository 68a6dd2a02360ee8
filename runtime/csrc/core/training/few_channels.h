// Convolutions of floats whose input has few channels, as a net's first layer on images: forward, and the gradient of
// the weight. Results do not depend on the kernels nor on the number of threads:
//
//   y = bias (or 0), then fma over rows, columns and channels of the window in this order, with zeros for the padding.
//   The gradient of the weight: for each sample, rows of y as sums of fma from 0 on, added as floats in their order
//   from 0 on; samples as doubles in their order, rounded. That of the bias is the same with a window of one 1.
//
// x [batch][rows][columns][channels], weight [rows][columns][channels][out channels], y with its channels last.
#pragma once
#include <string>

#include "core/few_channels_kernels.h"
#include "core/training/shape.h"

namespace bitorch {

// Of kernels(name) of core/base/cpu.h, which says what Errors there are; "" for those in use.
const FewChannelsKernels& few_channels_kernels(const std::string& name);

struct FewChannelsForward {
  const FewChannelsKernels* kernels;
  ConvShape shape;  // check_shape() has passed; without groups
  const float *x, *weight;
  const float* bias;  // or null
  float* y;
  int threads;
};
void few_channels_forward(const FewChannelsForward& args);

struct FewChannelsBackward {
  const FewChannelsKernels* kernels;
  ConvShape shape;
  const float *x, *g;
  float* weight;
  float* bias;  // or null
  int threads;
};
void few_channels_backward(const FewChannelsBackward& args);

}  // namespace bitorch
