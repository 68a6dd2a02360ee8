// dW: for each sample an exact sum of integers, times its scale, added in the samples' order.
#pragma once
#include <cstdint>

#include "core/training/shape.h"
#include "core/training/tiles.h"

namespace bitorch {

struct GradWeightArgs {
  const TrainingKernels* kernels;
  ConvShape shape;
  const SavedLayout* layout;
  const uint8_t* saved;
  const int8_t* groups;    // of each sample and group of channels, as put_groups() writes them
  const float* scale;      // of each sample
  const int32_t* halves;   // of each sample, as TapSums::run() writes them; null where groups hold codes
  const int32_t* borders;  // of each sample, [kernel.rows][groups][out_channels in whole blocks], what is added to
                           // sums of bytes; or null
  float input_scale;
  float* dw;        // [out_channels][kernel.rows][kernel.columns][in_channels / groups]
  int32_t largest;  // product of a byte of x and one of the gradient
  int threads;
};

// Output rows whose window has this row of the kernel on a row of x.
TapRange output_rows(const ConvShape& shape, int64_t kernel_row);

void grad_weight(const GradWeightArgs& args);

}  // namespace bitorch
