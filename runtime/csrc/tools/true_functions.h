// GELU in double, by libm.
#pragma once
#include <cmath>

namespace bitorch {

// Nothing is taken from 1 for negative x.
inline double true_gelu(double x) { return x * 0.5 * std::erfc(-x * 0.70710678118654752440); }

inline double true_gelu_tanh(double x) {
  const double z = 1.5957691216057307117597842397375 * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-z));
}

}  // namespace bitorch
