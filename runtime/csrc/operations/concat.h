// concat: tensors side by side along the channels.
#pragma once
#include <vector>

#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kConcatKeys[] = {"inputs", "output"};

struct ConcatSpec {
  std::vector<const Tensor*> inputs;  // float32, or codes of the same bits; of the same height and width
  const Tensor* output = nullptr;     // of their values, and as many channels as all of them have
};

ConcatSpec read_concat(const OperationReader& reader);
std::unique_ptr<Operation> make_concat(const ConcatSpec& spec, Preparation& preparation);

}  // namespace bitorch
