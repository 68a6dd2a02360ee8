// flatten: an image becomes one feature vector, channels first or channels last.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kFlattenKeys[] = {"input", "output", "order"};

struct FlattenSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values, one pixel of height x width x channels
  bool channels_last = false;      // feature (y * width + x) * channels + c, else (c * height + y) * width + x
};

FlattenSpec read_flatten(const OperationReader& reader);
std::unique_ptr<Operation> make_flatten(const FlattenSpec& spec, Preparation& preparation);

}  // namespace bitorch
