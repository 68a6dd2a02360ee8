// Whether numbers hold a NaN, at the speed of memory.
#pragma once
#include <cstdint>

namespace bitorch {

bool holds_nan(const float* x, int64_t n);

}  // namespace bitorch
