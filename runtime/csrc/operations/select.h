// select: channels in another order, some of them, or some several times.
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kSelectKeys[] = {"input", "output", "channels"};

struct SelectSpec {
  const Tensor* input = nullptr;      // float32 or codes
  const Tensor* output = nullptr;     // of the same values, height and width
  const int32_t* channels = nullptr;  // [output channels]: channels of the input
};

SelectSpec read_select(const OperationReader& reader);
std::unique_ptr<Operation> make_select(const SelectSpec& spec, Preparation& preparation);

}  // namespace bitorch
