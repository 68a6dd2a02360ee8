// SiLU, sigmoid, tanh and ELU of vectors of floats: one fixed sequence of float32 operations, each rounded by itself,
// so that every CPU gives the same bits, whatever the size of its vectors; reference/functions.py has the same sequence. They are
// less than 2.5 units in the last place away from the true values, over all floats, subnormal results included:
// check_functions measures it. Part of activations.inl, and of what applies a function in registers.

typedef uint32_t FloatBits __attribute__((vector_size(sizeof(Floats))));

static inline Floats all_lanes(float value) { return Floats{} + value; }

// e^t = scale · (1 + tail), times 2^(bias - 127); NaN makes a tail of NaN. It holds while the exponent of the scale is
// that of a normal number: for 1 <= t / ln 2 + bias <= 254, about. `bias_round` is kFloatRound + bias: added to a small
// number, it leaves the nearest integer, and the bias, in the low bits.
struct FloatExponential {
  Floats scale, tail;
};
constexpr float kFloatRound = 0x1.8p23f;
constexpr float kFloatBias = 127.0f;
constexpr float kFloatLog2E = 0x1.715476p+0f;
constexpr float kFloatLn2High = 0x1.62e4p-1f, kFloatLn2Low = 0x1.7f7d1cp-20f;  // k · kFloatLn2High is exact

// e^r - 1 for |r| <= 0.3468.
static inline Floats small_float_exponential(Floats r) {
  // (e^r - 1 - r) / r^2, of least error in e^r: 2^-28.
  Floats p = r * 0x1.6d6dbap-10f + 0x1.123ac2p-7f;
  p = p * r + 0x1.5554ccp-5f;
  p = p * r + 0x1.555490p-3f;
  p = p * r + 0.5f;
  return r * r * p + r;
}

static inline FloatExponential split_float_exponential(Floats t, Floats bias_round) {
  const Floats shifted = t * kFloatLog2E + bias_round;
  const Floats k = shifted - bias_round;
  const Floats r = t - k * kFloatLn2High - k * kFloatLn2Low;
  return {(Floats)((FloatBits)shifted << 23), small_float_exponential(r)};
}

// Of t + low, which no float32 could hold: low is small beside t.
static inline FloatExponential split_float_exponential(Floats t, Floats low, Floats bias_round) {
  const Floats shifted = (t + low) * kFloatLog2E + bias_round;
  const Floats k = shifted - bias_round;
  const Floats r = t - k * kFloatLn2High - k * kFloatLn2Low + low;
  return {(Floats)((FloatBits)shifted << 23), small_float_exponential(r)};
}

// For x >= 0 1 + e^-x, and for x < 0 2^-32 times that, which no number of a result above 0 makes infinite; and the
// factor, 1 or 2^-32.
struct ScaledDenominator {
  Floats sum, factor;
};

static inline ScaledDenominator one_plus_float_exp_of_minus(Floats x) {
  constexpr float kSmall = 0x1p-32f;
  const auto negative = x < Floats{};
  const Floats bias_round =
      negative ? all_lanes(kFloatRound + kFloatBias - 32.0f) : all_lanes(kFloatRound + kFloatBias);
  const Floats factor = negative ? all_lanes(kSmall) : all_lanes(1.0f);
  const Floats t = -x;
  const FloatExponential e = split_float_exponential(t, bias_round);
  Floats power = e.scale + e.scale * e.tail;
  power = t > all_lanes(110.0f) ? all_lanes(__builtin_inff()) : power;  // so that -inf / (1 + e^inf) is NaN
  power = t < all_lanes(-87.0f) ? Floats{} : power;
  return {factor + power, factor};
}

static inline Floats sigmoid_of(Floats x) {
  const ScaledDenominator d = one_plus_float_exp_of_minus(x);
  return 1.0f / d.sum * d.factor;
}

static inline Floats silu_of(Floats x) {
  const ScaledDenominator d = one_plus_float_exp_of_minus(x);
  return x / d.sum * d.factor;
}

// From 0.625 on 1 - 2 / (e^(2|x|) + 1), below it an odd polynomial; then the sign of x.
static inline Floats tanh_of(Floats x) {
  constexpr uint32_t kSign = uint32_t{1} << 31;
  const FloatBits sign = (FloatBits)x & kSign;
  const Floats a = (Floats)((FloatBits)x & ~kSign);
  Floats t = a + a;
  t = t > all_lanes(20.0f) ? all_lanes(20.0f) : t;
  const FloatExponential e = split_float_exponential(t, all_lanes(kFloatRound + kFloatBias));
  const Floats far = 1.0f - 2.0f / (e.scale + e.scale * e.tail + 1.0f);
  const Floats square = a * a;
  Floats p = square * -0x1.768fbep-8f + 0x1.52503ap-6f;
  p = p * square - 0x1.b84338p-5f;
  p = p * square + 0x1.110760p-3f;
  p = p * square - 0x1.555534p-2f;
  const Floats near = a * square * p + a;
  const Floats y = a < all_lanes(0.625f) ? near : far;
  return (Floats)((FloatBits)y | sign);
}

// x > 0 ? x : slope * (e^x - 1), whose e^x - 1 loses nothing near zero.
static inline Floats elu_of(Floats x, Floats slope) {
  Floats t = x < all_lanes(-40.0f) ? all_lanes(-40.0f) : x;
  t = t > Floats{} ? Floats{} : t;
  const FloatExponential e = split_float_exponential(t, all_lanes(kFloatRound + kFloatBias));
  const Floats below = ((e.scale - 1.0f) + e.scale * e.tail) * slope;
  return x > Floats{} ? x : below;
}
