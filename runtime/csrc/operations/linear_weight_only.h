// linear_weight_only: float32 features times a matrix of packed codes, with a scale for each group of inputs.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kLinearWeightOnlyKeys[] = {"input",        "weight", "weight_bits", "weight_grid",
                                                        "out_channels", "scale",  "bias",        "output"};

struct LinearWeightOnlySpec {
  const Tensor* input = nullptr;    // float32
  const Tensor* output = nullptr;   // float32, of the input's rows
  const uint8_t* weight = nullptr;  // [out channels][packed_row_bytes]
  int weight_bits = 0;
  bool odd = false;
  const float* scale = nullptr;  // [out channels][groups]
  int64_t groups = 1;            // divides the input's channels
  const float* bias = nullptr;   // [out channels], or null
};

LinearWeightOnlySpec read_linear_weight_only(const OperationReader& reader);
std::unique_ptr<Operation> make_linear_weight_only(const LinearWeightOnlySpec& spec, Preparation& preparation);

}  // namespace bitorch
