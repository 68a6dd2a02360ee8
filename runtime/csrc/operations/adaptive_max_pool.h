// adaptive_max_pool: the largest number of windows that cover the image evenly.
#pragma once
#include "operations/adaptive_window.h"
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kAdaptiveMaxPoolKeys[] = {"input", "output", "output_size"};

struct AdaptiveMaxPoolSpec {
  const Tensor* input = nullptr;  // float32 or codes
  AdaptiveWindow window;
  const Tensor* output = nullptr;  // of the same values
};

AdaptiveMaxPoolSpec read_adaptive_max_pool(const OperationReader& reader);
std::unique_ptr<Operation> make_adaptive_max_pool(const AdaptiveMaxPoolSpec& spec, Preparation& preparation);

}  // namespace bitorch
