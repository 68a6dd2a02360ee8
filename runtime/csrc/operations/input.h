// input: an array from outside becomes a tensor.
#pragma once
#include <cstddef>

#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kInputKeys[] = {"output", "dtype", "shape", "order", "bits", "array_shape", "below"};

struct InputSpec {
  size_t index = 0;                // of the array in RunContext::inputs
  const Tensor* output = nullptr;  // float32 from an array of float32, codes from one of uint8, indices (indices.h)
  bool wide = false;               // indices come as int64, else as int32
  bool channels_last = true;       // the array: [batch][H][W][C], else [batch][C][H][W]
};

InputSpec read_input(const OperationReader& reader);
// Error in run() where a code of the array has more bits than the tensor.
std::unique_ptr<Operation> make_input(const InputSpec& spec, Preparation& preparation);

}  // namespace bitorch
