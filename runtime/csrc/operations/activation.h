// activation: one function of every float32.
#pragma once
#include "core/function_kernels.h"
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kActivationKeys[] = {"input", "output",    "function", "slope", "alpha",
                                                  "beta",  "threshold", "value",    "lambda"};

struct ActivationSpec {
  const Tensor* input = nullptr;   // float32
  const Tensor* output = nullptr;  // float32, of the same shape
  FunctionOfFloats function = kLeakyRelu;
  const float* slope = nullptr;  // [channels], of kLeakyRelu and kElu; else null
  float parameters[2] = {0, 0};  // of the others that have some, as FunctionKernels takes them
};

ActivationSpec read_activation(const OperationReader& reader);
std::unique_ptr<Operation> make_activation(const ActivationSpec& spec, Preparation& preparation);

}  // namespace bitorch
