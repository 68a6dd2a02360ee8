// quantize: float32 becomes codes, by the unit quantizer, by rounding or by thresholds.
#pragma once
#include "operations/definition.h"
#include "operations/elementwise.h"

namespace bitorch {

inline constexpr const char* kQuantizeKeys[] = {"input", "output", "bits", "zero_point", "thresholds", "descending"};

struct QuantizeSpec {
  const Tensor* input = nullptr;  // float32
  ElementwiseOutputs outputs;     // codes alone
  bool rounds = false;            // to integers, above the zero point; not to shares of 0 .. 1
  int zero_point = 0;             // of what rounds
};

QuantizeSpec read_quantize(const OperationReader& reader);
std::unique_ptr<Operation> make_quantize(const QuantizeSpec& spec, Preparation& preparation);

}  // namespace bitorch
