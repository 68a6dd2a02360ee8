// add: the sums of two tensors, of which each is repeated along the axes where it has one place; rectified where asked
// for.
#pragma once
#include "operations/definition.h"
#include "operations/elementwise.h"

namespace bitorch {

inline constexpr const char* kAddKeys[] = {"inputs", "relu", "float32", "codes", "bits", "thresholds", "descending"};

struct AddSpec {
  const Tensor* input = nullptr;  // float32
  const Tensor* other = nullptr;  // float32; sizes along each axis are equal or 1
  bool relu = false;              // of the sum
  ElementwiseOutputs outputs;
};

AddSpec read_add(const OperationReader& reader);
std::unique_ptr<Operation> make_add(const AddSpec& spec, Preparation& preparation);

}  // namespace bitorch
