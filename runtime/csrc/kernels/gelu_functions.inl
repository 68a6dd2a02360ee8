// GELU of vectors of floats, exact and by tanh: one fixed sequence of float32 operations as in float_functions.inl, of
// which this is a part. reference/functions.py has the same sequence. They are less than 2.5 units in the last place away from
// the true values over all floats, down to where these are subnormal: check_functions measures it. The tail is never
// taken from 1: both are products of x and of an e^t, and t has a low part that float32 has no room for.

// The upper half of a float: its square, and its product with another one, are exact.
static inline Floats upper_half(Floats x) { return (Floats)((FloatBits)x & 0xfffff000u); }

static inline Floats absolute_lanes(Floats x) { return (Floats)((FloatBits)x & 0x7fffffffu); }

// a/2 - a^2·p(a^2), for a <= 0.5.
static inline Floats gelu_near(Floats a) {
  const Floats square = a * a;
  Floats p = square * -0x1.264caap-10f + 0x1.4667d2p-7f;
  p = p * square - 0x1.105744p-4f;
  p = p * square + 0x1.988452p-2f;
  return a * 0.5f - square * p;
}

// Around its largest value, for 0.5 <= a <= 0.89.
static inline Floats gelu_middle(Floats a) {
  const Floats d = a - 0x1.7ep-1f;
  Floats p = d * 0x1.524506p-10f - 0x1.7686d6p-6f;
  p = p * d + 0x1.5710d6p-8f;
  p = p * d + 0x1.08d7e0p-3f;
  p = p * d - 0x1.be6120p-3f;
  p = p * d + 0x1.43e624p-9f;
  return p * d + 0x1.5c162ep-3f;
}

// e^(-a^2/2)·(1 - s(a))/√2π from 0.88 on, s·a^2 tends to 1.
static inline Floats gelu_far(Floats a) {
  constexpr float kScale = 0x1.988454p-2f;
  const Floats high = upper_half(a);
  const FloatExponential e = split_float_exponential(high * high * -0.5f, (a - high) * (a + high) * -0.5f,
                                                     all_lanes(kFloatRound + kFloatBias + 32.0f));
  Floats n = a * 0x1.95c664p-6f + 0x1.6230f8p-3f;
  n = n * a + 0x1.31fbb6p-1f;
  n = n * a + 0x1.000cf8p+0f;
  Floats d = a * 0x1.95cddap-6f + 0x1.61f7b8p-3f;
  d = d * a + 0x1.594074p-1f;
  d = d * a + 0x1.7d9708p+0f;
  d = d * a + 0x1.da2a14p+0f;
  d = d * a + 1.0f;
  const Floats s = n / d;
  const Floats w = e.tail - (s + s * e.tail);
  return (w * kScale + kScale) * e.scale * 0x1p-32f;
}

// max(x, 0) - h(|x|), h(a) = a·(1 - Φ(a)).
static inline Floats gelu_of(Floats x) {
  constexpr float kNothing = 14.5f;  // from here on h is 0
  const Floats size = absolute_lanes(x);
  const Floats a = size > all_lanes(kNothing) ? all_lanes(kNothing) : size;
  const Floats near = a < all_lanes(0.5f) ? gelu_near(a) : gelu_middle(a);
  const Floats h = a < all_lanes(0.885f) ? near : gelu_far(a);
  return (x > Floats{} ? x : x * 0.0f) - h;  // -inf·0 is NaN
}

// x / (1 + e^-z), z = √(8/π)·(x + 0.044715·x^3), whose error must be far below 1 where it is 100.
static inline Floats gelu_tanh_of(Floats x) {
  constexpr float kOne = 0x1.98846p+0f, kOneLow = -0x1.985794p-21f;   // √(8/π)
  constexpr float kThree = 0x1.244p-4f, kThreeLow = 0x1.3ca936p-18f;  // 0.044715·√(8/π)
  const auto negative = x < Floats{};
  const Floats size = absolute_lanes(x);
  const Floats a = size > all_lanes(11.0f) ? all_lanes(11.0f) : size;
  const Floats high = upper_half(a), rest = a - high;
  const Floats square = high * high, square_low = rest * (a + high);
  const Floats square_high = (Floats)((FloatBits)square & 0xffffe000u);
  // factor + factor_low = √(8/π)·(1 + 0.044715·a^2), the first sum exact
  const Floats product = square_high * kThree;
  const Floats factor = product + kOne;
  const Floats factor_low = (product - (factor - kOne)) + (square - square_high) * kThree +
                            ((square + square_low) * kThreeLow + (square_low * kThree + kOneLow));
  const Floats factor_high = upper_half(factor);
  const Floats z = high * factor_high;
  const Floats z_low = high * (factor - factor_high) + (rest * factor + a * factor_low);
  const FloatBits sign = ((FloatBits)x & 0x80000000u) ^ 0x80000000u;
  const Floats bias_round =
      negative ? all_lanes(kFloatRound + kFloatBias - 32.0f) : all_lanes(kFloatRound + kFloatBias);
  const Floats one = negative ? all_lanes(0x1p-32f) : all_lanes(1.0f);
  const FloatExponential e =
      split_float_exponential((Floats)((FloatBits)z ^ sign), (Floats)((FloatBits)z_low ^ sign), bias_round);
  Floats power = e.scale + e.scale * e.tail;
  const Floats end = negative ? all_lanes(__builtin_inff()) : Floats{};  // -inf / (1 + e^inf) is NaN
  power = a > (negative ? all_lanes(10.85f) : all_lanes(9.5f)) ? end : power;
  return x / (one + power) * one;
}
