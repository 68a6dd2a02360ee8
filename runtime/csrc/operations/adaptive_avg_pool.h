// adaptive_avg_pool: means over windows that cover the image evenly, of sizes that may differ by one.
#pragma once
#include "operations/adaptive_window.h"
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kAdaptiveAvgPoolKeys[] = {"input", "output", "output_size"};

// The windows, output height x output width of them, follow from the shapes: see PyTorch's AdaptiveAvgPool2d.
struct AdaptiveAvgPoolSpec {
  const Tensor* input = nullptr;  // float32
  AdaptiveWindow window;
  const Tensor* output = nullptr;  // float32, of as many channels
};

AdaptiveAvgPoolSpec read_adaptive_avg_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_adaptive_avg_pool(const AdaptiveAvgPoolSpec& spec, Preparation& preparation);

}  // namespace bitorch
