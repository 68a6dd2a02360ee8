// activation: one function of every float32.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kActivationKeys[] = {"input", "output", "function", "slope"};

enum class ActivationFunction { kLeakyRelu, kElu, kHardswish, kHardsigmoid, kSigmoid, kTanh, kSilu, kGelu, kGeluTanh };

struct ActivationSpec {
  const Tensor* input = nullptr;   // float32
  const Tensor* output = nullptr;  // float32, of the same shape
  ActivationFunction function = ActivationFunction::kLeakyRelu;
  const float* slope = nullptr;  // [channels], of kLeakyRelu and kElu; else null
};

ActivationSpec read_activation(const OperationReader& reader);
std::unique_ptr<Operation> make_activation(const ActivationSpec& spec, Preparation& preparation);

}  // namespace bitorch
