#include "core/base/holds_nan.h"

#include <cstring>

namespace bitorch {

// As integers, without their signs, NaNs are above infinity, so that the difference is negative: a loop that every
// compiler makes vectors of.
bool holds_nan(const float* x, int64_t n) {
  constexpr int32_t kInfinity = 0x7f800000, kWithoutSign = 0x7fffffff;
  int32_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    found |= kInfinity - (bits & kWithoutSign);
  }
  return found < 0;
}

}  // namespace bitorch
