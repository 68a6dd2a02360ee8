// avg_pool: sums of codes are exact integers; float32 values are added one after the other in the order of rows and
// columns, as PyTorch does, so that the result is the same everywhere.
#pragma once
#include "operations/definition.h"
#include "operations/pool_window.h"

namespace bitorch {

inline constexpr const char* kAvgPoolKeys[] = {
    "input", "output", "kernel_size", "stride", "padding", "count_include_pad", "scale"};

struct AvgPoolSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // float32
  PoolWindow window;               // not dilated
  bool count_padding = false;      // means divide by the size of the window, else by its real pixels
  float scale = 1.0f;              // what a step of a code is worth
};

AvgPoolSpec read_avg_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_avg_pool(const AvgPoolSpec& spec, Preparation& preparation);

}  // namespace bitorch
