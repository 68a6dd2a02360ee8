// Functions of floats without an exponential. Part of functions.inl.

// Comparisons with NaN are false: it stays.
static inline Floats clamp_to_six(Floats x) { return least(all_lanes(6.0f), most(Floats{}, x)); }

static inline Floats leaky_relu_of(Floats x, Floats slope) {
  const Floats scaled = x * slope;
  return x > Floats{} ? x : scaled;
}

static inline Floats hardswish_of(Floats x) { return x * clamp_to_six(x + 3.0f) / 6.0f; }

static inline Floats hardsigmoid_of(Floats x) { return clamp_to_six(x + 3.0f) / 6.0f; }

static inline Floats softsign_of(Floats x) { return x / (absolute_lanes(x) + 1.0f); }

// NaN has the sign 0, as PyTorch says.
static inline Floats sign_of(Floats x) {
  const Floats one = with_sign(all_lanes(1.0f), x);
  return (x < Floats{}) | (x > Floats{}) ? one : Floats{};
}

static inline Floats threshold_of(Floats x, Floats threshold, Floats value) { return x <= threshold ? value : x; }

// x between -lambda and lambda, both among them: 0.
static inline Floats hardshrink_of(Floats x, Floats lambda) { return (x >= -lambda) & (x <= lambda) ? Floats{} : x; }

// Beyond that, lambda nearer to 0; NaN stays.
static inline Floats softshrink_of(Floats x, Floats lambda) {
  const Floats above = x - lambda, below = x + lambda, inside = x * 0.0f;
  const Floats y = x < -lambda ? below : inside;
  return x > lambda ? above : y;
}

// x = m·2^k with m between √½ and √2, ln x = k·ln 2 + ln m.
static inline Floats log_of(Floats x) {
  constexpr uint32_t kRootOfHalf = 0x3f3504f3;
  const auto is_subnormal = x < all_lanes(0x1p-126f);
  const Floats scaled = x * 0x1p24f;
  const FloatBits bits = (FloatBits)(is_subnormal ? scaled : x) - kRootOfHalf;
  const FloatInts exponent = (FloatInts)bits >> 23;
  const Floats k = __builtin_convertvector(exponent, Floats) - (is_subnormal ? all_lanes(24.0f) : Floats{});
  const Floats f = (Floats)((bits & 0x7fffffu) + kRootOfHalf) - 1.0f;
  // ln(1 + f) = f - f^2/2 + f^3·p, of least relative error: 2^-27.
  Floats p = fused(f, -0x1.38c2a6p-4f, 0x1.055ce8p-3f);
  p = fused(p, f, -0x1.0d82a4p-3f);
  p = fused(p, f, 0x1.22d96ep-3f);
  p = fused(p, f, -0x1.547288p-3f);
  p = fused(p, f, 0x1.99a01ap-3f);
  p = fused(p, f, -0x1.000226p-2f);
  p = fused(p, f, 0x1.555554p-2f);
  const Floats rest = fused(fused(p, f, -0.5f), f * f, k * kLn2Low);
  const Floats y = fused(k, kLn2High, f + rest);
  const Floats infinity = all_lanes(__builtin_inff());
  const Floats end = x == Floats{} ? -infinity : x == infinity ? infinity : all_lanes(__builtin_nanf(""));
  return (x > Floats{}) & (x < infinity) ? y : end;
}
