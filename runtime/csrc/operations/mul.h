// mul: products of two tensors, or of every pixel with one pixel (the gate of a squeeze-and-excitation block).
#pragma once
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kMulKeys[] = {"inputs", "output"};

struct MulSpec {
  const Tensor* input = nullptr;   // float32
  const Tensor* other = nullptr;   // float32, of the shape of `input` or one pixel of as many channels
  const Tensor* output = nullptr;  // float32, of the shape of `input`
};

MulSpec read_mul(const OperationReader& reader);
std::unique_ptr<Operation> make_mul(const MulSpec& spec, Preparation& preparation);

}  // namespace bitorch
