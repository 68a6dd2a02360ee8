// softmax: over the channels of each pixel, or its logarithm.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kSoftmaxKeys[] = {"input", "output", "log"};

struct SoftmaxSpec {
  const Tensor* input = nullptr;   // float32
  const Tensor* output = nullptr;  // float32, of the same shape
  bool log = false;
};

SoftmaxSpec read_softmax(const OperationReader& reader);
std::unique_ptr<Operation> make_softmax(const SoftmaxSpec& spec, Preparation& preparation);

}  // namespace bitorch
