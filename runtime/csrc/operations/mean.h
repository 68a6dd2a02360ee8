// What avg_pool and global_avg_pool have in common: means of codes, whose sums are exact integers, and of floats.
#pragma once
#include <cstdint>

#include "core/graph/operation_reader.h"

namespace bitorch {

// "scale", what a step of a code is worth: 1 / (2^bits - 1) where it is missing, and 1 of floats.
float read_code_scale(const OperationReader& reader, const Tensor& input);
// Error where a sum of `values` codes of the input may not fit in int32.
void check_sum_of_codes(const OperationReader& reader, const Tensor& input, int64_t values);

// One multiplication, then one division.
inline void mean_of_codes(float* out, const int32_t* sums, int64_t n, float scale, float count) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(sums[i]) * scale / count;
}

// In place.
inline void mean_of_floats(float* values, int64_t n, float count) {
  for (int64_t i = 0; i < n; ++i) values[i] /= count;
}

}  // namespace bitorch
