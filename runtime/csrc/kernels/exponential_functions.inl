// e^x, and functions that are made of it: less than 3 units in the last place away from the true values over all
// floats, subnormal results included, which check_functions measures. Part of functions.inl.

// t = k·ln 2 + r, |r| <= 0.3468, `rounded` = k + kRound; meaningless, or NaN, where |t| is beyond 2^22.
struct Reduced {
  Floats rounded, k, r;
};
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // k · kLn2High is exact
// Added to a small number, it leaves the nearest integer, and the bias of an exponent, in the low bits.
constexpr float kRound = 0x1.8p23f + 127.0f;

static inline Reduced reduced(Floats t) {
  const Floats rounded = fused(t, kLog2E, kRound);
  const Floats k = rounded - kRound;
  return {rounded, k, fused(k, -kLn2Low, fused(k, -kLn2High, t))};
}

// Its r is that of -t, or of the whole x if t is that limited.
static inline Reduced reduced_for_minus(Floats t, Floats x) {
  const Floats rounded = fused(t, kLog2E, kRound);
  const Floats k = rounded - kRound;
  return {rounded, k, fused(k, kLn2Low, fused(k, kLn2High, -x))};
}

static inline Reduced reduced_for_minus(Floats t) { return reduced_for_minus(t, t); }

// Of t + low, which no float32 could hold: low is small beside t.
static inline Reduced reduced(Floats t, Floats low) {
  const Reduced e = reduced(t);
  return {e.rounded, e.k, e.r + low};
}

// e^r - 1.
static inline Floats small_exponential(Floats r) {
  // (e^r - 1 - r) / r^2, of least error in e^r: 2^-28.
  Floats p = fused(r, 0x1.6d6dbap-10f, 0x1.123ac2p-7f);
  p = fused(p, r, 0x1.5554ccp-5f);
  p = fused(p, r, 0x1.555490p-3f);
  p = fused(p, r, 0.5f);
  return fused(p, r * r, r);
}

// 2^k for -126 <= k <= 127; beyond that 2^-126 of less.
static inline Floats power_of_two(const Reduced& e) {
  const Floats rounded = most(all_lanes(kRound - 126.0f), e.rounded);
  return (Floats)((FloatBits)rounded << 23);
}

static inline Floats exp_of(Floats x) {
  const Reduced e = reduced(least(all_lanes(200.0f), most(all_lanes(-200.0f), x)));
  return times_power(small_exponential(e.r) + 1.0f, e.k);
}

// e^t - 1 for t <= 0, which loses nothing near zero.
static inline Floats exp_minus_one(Floats t) {
  const Reduced e = reduced(most(all_lanes(-40.0f), t));
  const Floats scale = (Floats)((FloatBits)e.rounded << 23);
  return fused(scale, small_exponential(e.r), scale - 1.0f);
}

// 1 + e^-t = (2^k + e^-r) / 2^k: nothing overflows, and what remains is one division and one power of two.
static inline Floats sigmoid_of(Floats x) {
  const Reduced e = reduced_for_minus(least(all_lanes(30.0f), most(all_lanes(-200.0f), x)));
  const Floats sum = power_of_two(e) + (small_exponential(e.r) + 1.0f);
  return times_power(1.0f / sum, e.k);
}

// Far below 0 e^-r is infinite, and of -infinity NaN, as -infinity / (1 + e^infinity) is.
static inline Floats silu_of(Floats x) {
  const Floats limited = least(all_lanes(30.0f), x);
  const Reduced e = reduced_for_minus(most(all_lanes(-1e30f), limited), limited);
  const Floats sum = power_of_two(e) + (small_exponential(e.r) + 1.0f);
  return times_power(x / sum, e.k);
}

// With E = e^-2|x| - 1, which loses nothing near zero, |tanh x| = |E| / (2 + E).
static inline Floats tanh_of(Floats x) {
  const Floats minus = exp_minus_one(absolute_lanes(x) * -2.0f);
  return with_sign(minus / (minus + 2.0f), x);
}

// x > 0 ? x : slope · (e^x - 1)
static inline Floats elu_of(Floats x, Floats slope) {
  const Floats below = exp_minus_one(least(Floats{}, x)) * slope;
  return x > Floats{} ? x : below;
}

// With the two constants of the paper (Klambauer et al., 2017): their product, and the second.
static inline Floats selu_of(Floats x) {
  const Floats below = exp_minus_one(least(Floats{}, x)) * 0x1.c212ccp+0f;
  return x > Floats{} ? x * 0x1.0cfabep+0f : below;
}

// x > 0 ? x : alpha · (e^(x / alpha) - 1), divided by a multiplication as PyTorch does.
static inline Floats celu_of(Floats x, Floats alpha, Floats inverse) {
  const Floats scaled = x * inverse;
  const Floats below = exp_minus_one(least(Floats{}, scaled)) * alpha;
  return x > Floats{} ? x : below;
}

// ln(1 + w) for 0 <= w <= 1.
static inline Floats log_of_one_plus(Floats w) {
  Floats p = fused(w, -0x1.b164fep-9f, 0x1.4a249ep-6f);
  p = fused(p, w, -0x1.d78b46p-5f);
  p = fused(p, w, 0x1.b50b32p-4f);
  p = fused(p, w, -0x1.3a597ap-3f);
  p = fused(p, w, 0x1.93510cp-3f);
  p = fused(p, w, -0x1.ff249ep-3f);
  p = fused(p, w, 0x1.554dd4p-2f);
  p = fused(p, w, -0x1.ffffd2p-2f);
  return fused(p, w * w, w);
}

// A polynomial of the table for each of 8 steps, of which `steps` lie between two whole numbers.
template <int rows>
static inline Floats by_table(Floats x, float steps, const Table<rows>& table) {
  constexpr float kWhole = 0x1.8p23f;
  const Floats rounded = fused(x, steps, kWhole);
  const Floats d = fused(rounded - kWhole, -1.0f / steps, x);
  Floats p = entries(table[0], rounded);
  for (int i = 1; i < rows; ++i) p = fused(p, d, entries(table[i], rounded));
  return p;
}

// Functions that have a table are in two parts: near 0, where one look-up and a polynomial do, and wherever else.
constexpr float kNear = 3.4375f;

// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
static inline Floats softplus_far(Floats x) {
  const Reduced e = reduced(most(all_lanes(-200.0f), -absolute_lanes(x)));
  const Floats power = times_power(small_exponential(e.r) + 1.0f, e.k);
  return most(x, Floats{}) + log_of_one_plus(power);
}

__attribute__((always_inline)) static inline Floats softplus_near(Floats x) {
  return by_table(x, 1.0f, kSoftplusTable);
}

// x·tanh(ln(1 + e^x)) = x·e^x·(1 - e^x·(e^x + 1) / n) = x - x·2 / n, n = e^x·(e^x + 2) + 2, of which one is taken for x
// below 0 and one above, so that what is taken away is small.
static inline Floats mish_far(Floats x) {
  const Floats limited = most(all_lanes(-200.0f), x), ended = least(all_lanes(30.0f), limited);
  const Reduced e = reduced(ended);
  const Floats tail = small_exponential(e.r), scale = power_of_two(e);
  const Floats power = fused(scale, tail, scale);
  const auto is_above = x > Floats{};
  const Floats part = (is_above ? all_lanes(2.0f) : power * (power + 1.0f)) / fused(power, power + 2.0f, 2.0f);
  const Floats below = times_power(fused(limited, tail - fused(part, tail, part), limited), e.k);
  const Floats y = is_above ? fused(-part, ended, x) : below;
  return x == all_lanes(-__builtin_inff()) ? all_lanes(__builtin_nanf("")) : y;  // -infinity·0
}

__attribute__((always_inline)) static inline Floats mish_near(Floats x) { return x * by_table(x, 1.0f, kMishTable); }
