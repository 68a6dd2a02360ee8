// erf, GELU and its form with tanh, as accurate as exponential_functions.inl has it. The tail is never taken from 1: it
// is a product of an e^t whose t has a low part that float32 has no room for. Part of functions.inl.

// With g(a) = -ln(1 - erf(a)) / a, |erf x| = 1 - e^(-|x|·g(|x|)).
static inline Floats erf_of(Floats x) {
  const Floats a = least(all_lanes(4.0f), absolute_lanes(x));  // from there on it is 1
  Floats g = fused(a, 0x1.5cf44ep-15f, -0x1.968174p-12f);
  g = fused(g, a, 0x1.4d3386p-10f);
  g = fused(g, a, 0x1.75f1aep-13f);
  g = fused(g, a, -0x1.3c3d74p-6f);
  g = fused(g, a, 0x1.a51948p-4f);
  g = fused(g, a, 0x1.45f2bcp-1f);
  g = fused(g, a, 0x1.20dd76p+0f);
  return with_sign(exp_minus_one(fused(-a, g, a * 0x1.f7ac92p-25f)), x);
}

// max(x, 0) - h(|x|), h(a) = a·(1 - Φ(a)); h(a) = e^(-a^2/2)·(1 - s(a))/√2π for a > 0.9, where s·a^2 tends to 1.
static inline Floats gelu_far(Floats x) {
  constexpr float kScale = 0x1.988454p-2f;
  const Floats a = least(all_lanes(14.5f), absolute_lanes(x));  // from there on h is 0
  const Floats square = a * a;
  const Reduced e = reduced(square * -0.5f, fused(a, a, -square) * -0.5f);
  const Floats tail = small_exponential(e.r);
  Floats n = fused(a, 0x1.95c664p-6f, 0x1.6230f8p-3f);
  n = fused(n, a, 0x1.31fbb6p-1f);
  n = fused(n, a, 0x1.000cf8p+0f);
  Floats d = fused(a, 0x1.95cddap-6f, 0x1.61f7b8p-3f);
  d = fused(d, a, 0x1.594074p-1f);
  d = fused(d, a, 0x1.7d9708p+0f);
  d = fused(d, a, 0x1.da2a14p+0f);
  d = fused(d, a, 1.0f);
  const Floats s = n / d;
  const Floats h = times_power(fused(tail - fused(s, tail, s), kScale, kScale), e.k);
  return (x > Floats{} ? x : x * 0.0f) - h;  // -infinity·0 is NaN
}

__attribute__((always_inline)) static inline Floats gelu_near(Floats x) {
  const Floats a = absolute_lanes(x);
  return most(x, Floats{}) - a * by_table(a, 2.0f, kGeluTable);
}

// x / (1 + e^-z), z = √(8/π)·(x + 0.044715·x^3), whose error must be far below 1 where it is 100.
static inline Floats gelu_tanh_far(Floats x) {
  constexpr float kOne = 0x1.98846p+0f, kOneLow = -0x1.985794p-21f;   // √(8/π)
  constexpr float kThree = 0x1.244p-4f, kThreeLow = 0x1.3ca936p-18f;  // 0.044715·√(8/π)
  const Floats limited = most(all_lanes(-11.0f), x), a = least(all_lanes(11.0f), limited);
  const Floats square = a * a;
  const Floats square_low = fused(a, a, -square);
  // factor + factor_low = √(8/π)·(1 + 0.044715·a^2)
  const Floats factor = fused(square, kThree, kOne);
  const Floats lost = fused(square, kThree, kOne - factor);
  const Floats factor_low = lost + fused(square, kThreeLow, fused(square_low, kThree, kOneLow));
  const Floats z = a * factor;
  const Floats z_low = fused(a, factor_low, fused(a, factor, -z));
  Reduced e = reduced_for_minus(least(all_lanes(30.0f), z));
  e.r = e.r - z_low;
  const Floats sum = power_of_two(e) + (small_exponential(e.r) + 1.0f);
  const Floats y = times_power(limited / sum, e.k);
  return x == all_lanes(-__builtin_inff()) ? all_lanes(__builtin_nanf("")) : y;  // -infinity·0
}

__attribute__((always_inline)) static inline Floats gelu_tanh_near(Floats x) {
  const Floats a = absolute_lanes(x);
  return most(x, Floats{}) - a * by_table(a, 2.0f, kGeluTanhTable);
}
