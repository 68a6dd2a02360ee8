// quantize: float32 becomes codes, by the unit quantizer or by thresholds.
#pragma once
#include "operations/definition.h"
#include "operations/elementwise.h"

namespace bitorch {

inline constexpr const char* kQuantizeKeys[] = {"input", "output", "bits", "thresholds", "descending"};

struct QuantizeSpec {
  const Tensor* input = nullptr;  // float32
  ElementwiseOutputs outputs;     // codes alone
};

QuantizeSpec read_quantize(const OperationReader& reader);
std::unique_ptr<Operation> make_quantize(const QuantizeSpec& spec, Preparation& preparation);

}  // namespace bitorch
