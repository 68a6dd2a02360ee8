// constant: an array as a tensor, the same for every image: position embeddings, class tokens, masks.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kConstantKeys[] = {"output", "values"};

struct ConstantSpec {
  const float* values = nullptr;   // of one image, as the output has them: rows first, channels last
  const Tensor* output = nullptr;  // float32
};

ConstantSpec read_constant(const OperationReader& reader);
std::unique_ptr<Operation> make_constant(const ConstantSpec& spec, Preparation& preparation);

}  // namespace bitorch
