// linear_groups: codes times a matrix of packed codes, with a scale for each group of inputs.
#pragma once
#include "operations/convolution.h"

namespace bitorch {

inline constexpr const char* kLinearGroupsKeys[] = {
    "input",      "weight", "weight_bits", "weight_grid", "out_channels", "sign_activations",
    "zero_point", "scale",  "bias",        "output"};

struct LinearGroupsSpec {
  ConvolutionSpec layer;           // its input and weights, as of a linear layer without stages
  const Tensor* output = nullptr;  // float32, of the input's rows
  const float* scale = nullptr;    // [out channels][groups]
  int64_t groups = 1;              // divides the input's channels
  const float* bias = nullptr;     // [out channels], or null
};

LinearGroupsSpec read_linear_groups(const OperationReader& reader);
std::unique_ptr<Operation> make_linear_groups(const LinearGroupsSpec& spec, Preparation& preparation);

}  // namespace bitorch
