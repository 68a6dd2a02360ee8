// affine: a division, two affine maps, a residual and a clip of every float32, each where asked for.
#pragma once
#include <limits>

#include "operations/definition.h"
#include "operations/elementwise.h"

namespace bitorch {

inline constexpr const char* kAffineKeys[] = {"input",       "divide",   "multiply",   "offset",    "norm_multiply",
                                              "norm_offset", "residual", "low",        "high",      "float32",
                                              "codes",       "bits",     "thresholds", "descending"};

// In this order, each part where it is asked for: x / divide, x * multiply + offset (rounded twice),
// fma(x, norm_multiply, norm_offset), x + residual, clip(x, low, high). Arrays are [channels], or null.
struct AffineSpec {
  const Tensor* input = nullptr;  // float32
  const float* divide = nullptr;
  const float* multiply = nullptr;  // both or none
  const float* offset = nullptr;
  const float* norm_multiply = nullptr;  // both or none
  const float* norm_offset = nullptr;
  const Tensor* residual = nullptr;  // float32, of the same shape, or null
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
  ElementwiseOutputs outputs;
};

AffineSpec read_affine(const OperationReader& reader);
std::unique_ptr<Operation> make_affine(const AffineSpec& spec, Preparation& preparation);

}  // namespace bitorch
