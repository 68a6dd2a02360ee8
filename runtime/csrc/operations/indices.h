// Indices: int32 tensors that come from an input and are from 0 to some number, which is checked before any work. For
// them the `bits` of a tensor and of a port say how many values there are.
#pragma once
#include <cstdint>

#include "core/graph/graph.h"

namespace bitorch {

inline bool are_indices(const Tensor& tensor) { return tensor.values == Values::kInt32 && tensor.bits > 0; }
// They are 0 .. index_count() - 1.
inline int64_t index_count(const Tensor& indices) { return indices.bits; }

}  // namespace bitorch
