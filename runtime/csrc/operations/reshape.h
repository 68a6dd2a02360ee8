// reshape: other axes for the same numbers, rows first and channels last, as they lie in memory.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kReshapeKeys[] = {"input", "output", "shape"};

struct ReshapeSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values, and as many of them
};

ReshapeSpec read_reshape(const OperationReader& reader);
std::unique_ptr<Operation> make_reshape(const ReshapeSpec& spec, Preparation& preparation);

}  // namespace bitorch
