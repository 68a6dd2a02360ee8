// avg_pool: sums of codes are exact integers; float32 values are added one after the other in the order of rows and
// columns, as PyTorch does, so that the result is the same everywhere.
#pragma once
#include <array>

#include "operations/definition.h"
#include "operations/pool_window.h"
#include "operations/window_keys.h"

namespace bitorch {

inline constexpr const char* kAvgPoolKeys[] = {
    "input", "output", "kernel_size", "stride", "padding", "beyond", "count_include_pad", "divisor", "scale"};

struct AvgPoolSpec {
  const Tensor* input = nullptr;                 // float32 or codes
  const Tensor* output = nullptr;                // float32
  PoolWindow window;                             // not dilated; `after` includes what is beyond
  std::array<int64_t, kWindowAxes> beyond = {};  // pixels behind the padding, which never count: z, y, x
  bool count_padding = false;  // means divide by the pixels of the window and its padding, else by its real pixels
  int64_t divisor = 0;         // what means divide by; 0: as they count
  float scale = 1.0f;          // what a step of a code is worth
};

AvgPoolSpec read_avg_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_avg_pool(const AvgPoolSpec& spec, Preparation& preparation);

}  // namespace bitorch
