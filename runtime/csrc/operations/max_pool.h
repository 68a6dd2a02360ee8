// max_pool: the largest value of each window; padding never is.
#pragma once
#include "operations/definition.h"
#include "operations/pool_window.h"

namespace bitorch {

inline constexpr const char* kMaxPoolKeys[] = {"input", "output", "kernel_size", "stride", "padding", "dilation"};

struct MaxPoolSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values
  PoolWindow window;
};

MaxPoolSpec read_max_pool(const OperationReader& reader);
// What a max_pool was made from; null for other operations.
const MaxPoolSpec* as_max_pool(const Operation& operation);
std::unique_ptr<Operation> make_max_pool(const MaxPoolSpec& spec, Preparation& preparation);

}  // namespace bitorch
