// Functions of floats in double, by libm.
#pragma once
#include <cmath>

namespace bitorch {

// Nothing is taken from 1 for negative x.
inline double true_gelu(double x) { return x * 0.5 * std::erfc(-x * 0.70710678118654752440); }

inline double true_gelu_tanh(double x) {
  const double z = 1.5957691216057307117597842397375 * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-z));
}

// Nothing is lost where e^x is small, or next to x.
inline double true_softplus(double x) { return (x > 0.0 ? x : 0.0) + std::log1p(std::exp(-std::fabs(x))); }

// Beyond 40 tanh is 1, and of -infinity it is 0, which -infinity makes NaN.
inline double true_mish(double x) {
  if (x > 40.0) return x;
  const double n = std::exp(x) * (std::exp(x) + 2.0);
  return x * (n / (n + 2.0));
}

inline double true_selu(double x) {
  constexpr double kAlpha = 1.6732632423543772848170429916717, kScale = 1.0507009873554804934193349852946;
  return kScale * (x > 0.0 ? x : kAlpha * std::expm1(x));
}

}  // namespace bitorch
