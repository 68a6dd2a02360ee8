// The arrays that a program takes and gives.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/array.h"

namespace bitorch {

constexpr size_t kMaxArrayRank = kMaxAxes;

// One "input" or "output" operation, in the order of the description.
struct Port {
  std::string name;            // of the tensor
  Dtype dtype;                 // float32 or uint8; outputs also int32
  std::vector<int64_t> shape;  // of one image of the array: {C, rows ...}, {rows ..., C} or {F}, or as "array_shape"
                               // says, up to kMaxArrayRank dimensions or none; the batch comes before it
  std::string order;           // "nchw": channels first, "nhwc": channels last, whatever the row axes, or "nf" of
                               // vectors: how the numbers lie in memory, whatever the shape
  int bits;                    // of codes, else 0
};

}  // namespace bitorch
