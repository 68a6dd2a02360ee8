// y of a low-bit convolution, and what its backward needs of x.
#pragma once
#include <cstdint>

#include "core/training/input.h"
#include "core/training/norm.h"
#include "core/training/shape.h"
#include "core/training/weight_codes.h"

namespace bitorch {

struct ForwardArgs {
  const TrainingKernels* kernels;
  ConvShape shape;
  const WeightCodes* weight;
  const float* x;  // null where `norm` makes the codes
  InputCodes input;
  const float* scale;  // of the sums: one, or one for each output channel
  bool scale_per_channel;
  const float* bias;  // or null
  float* y;
  uint8_t* saved;  // as SavedLayout says; or null
  bool masked;
  int threads;
  const NormInput* norm = nullptr;
};

// Returns whether x holds a NaN, whose code is 0, and so is its bit of the mask. Error: sums may leave int32.
bool conv_forward(const ForwardArgs& args);

// The same for y = x * weight: x [batch][in_channels], one pixel. saved: bytes [batch][in_channels rounded up to 4],
// then the bits of the mask, a whole number of bytes for each sample.
bool linear_forward(const ForwardArgs& args);

// Bytes of what linear_forward saves.
struct LinearSaved {
  int64_t step, codes, mask, bytes;  // bytes of a sample's codes, of all codes, of a sample's bits (or 0), of all
  LinearSaved(int64_t batch, int64_t channels, bool masked);
};

// One number for each channel of whole blocks: the same, or that of the channel and 0 beyond.
Scratch<float> of_blocks(const float* from, bool per_channel, int64_t channels);

// Error where inputs * weight * code may leave int32; `what` says which sums.
void check_sums(const char* what, int64_t inputs, int64_t weight, int64_t code);

}  // namespace bitorch
