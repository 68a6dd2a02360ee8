// output: a tensor becomes an array for outside.
#pragma once
#include <cstddef>

#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kOutputKeys[] = {"input", "order", "array_shape"};

struct OutputSpec {
  const Tensor* input = nullptr;  // the array has its dtype: float32, int32, or uint8 of codes
  size_t index = 0;               // of the array in RunContext::outputs
  bool channels_last = true;      // the array: [batch][H][W][C], else [batch][C][H][W]
};

OutputSpec read_output(const OperationReader& reader);
std::unique_ptr<Operation> make_output(const OutputSpec& spec, Preparation& preparation);

}  // namespace bitorch
