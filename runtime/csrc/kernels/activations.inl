// Activation functions of float32, the same to the last bit on every CPU: nothing of libm, whose last bits depend on
// the machine, and no multiplication fused with an addition. Part of generic.inl.
//
// Softmax is computed in double with a relative error below 2^-47 and rounded to float32 once: it is half a unit in the
// last place (0.5000001) away from the true value at most. The others are float32 throughout: float_functions.inl,
// gelu_functions.inl.
// Vectors are spelled out, since compilers make branches of comparisons where they can; every lane computes what it
// would in a vector of another size.

#if defined(__AVX512F__)
#define BITORCH_VECTOR_BYTES 64
#elif defined(__AVX__)
#define BITORCH_VECTOR_BYTES 32
#else
#define BITORCH_VECTOR_BYTES 16
#endif
typedef float Floats __attribute__((vector_size(BITORCH_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(BITORCH_VECTOR_BYTES)));
typedef uint64_t DoubleBits __attribute__((vector_size(BITORCH_VECTOR_BYTES)));
#undef BITORCH_VECTOR_BYTES

#include "float_functions.inl"
#include "gelu_functions.inl"

// The first `count` lanes at `from`; zero in the others, which is not read.
template <typename Vector>
static inline Vector load_lanes(const float* from, int64_t count) {
  Vector x = {};
  __builtin_memcpy(&x, from, static_cast<unsigned long>(count) * sizeof(float));
  return x;
}

// out = f(in), n floats, Vector by Vector: f is given the lanes, the index of the first and how many there are.
template <typename Vector, typename Function>
static inline void for_vectors(float* out, const float* in, int64_t n, const Function& f) {
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vector y = f(load_lanes<Vector>(in + i, kLanes), i, kLanes);
    __builtin_memcpy(out + i, &y, sizeof(y));
  }
  if (i < n) {
    const Vector y = f(load_lanes<Vector>(in + i, n - i), i, n - i);
    __builtin_memcpy(out + i, &y, static_cast<unsigned long>(n - i) * sizeof(float));
  }
}

// Comparisons with NaN are false: it stays.
template <typename Vector, typename Number>
static inline Vector clamp_lanes(Vector x, Number low, Number high) {
  const Vector lowest = Vector{} + low, highest = Vector{} + high;
  x = x < lowest ? lowest : x;
  return x > highest ? highest : x;
}

// e^t = scale · (1 + tail), scale a power of two, for |t| <= 700; NaN makes a tail of NaN.
struct Exponential {
  Doubles scale, tail;
};

static inline Exponential split_exponential(Doubles t) {
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fefp-1, kLn2Low = 0x1.473de6af278edp-34;  // k · kLn2High is exact
  constexpr double kRound = 0x1.8p52;  // added to a small number, it leaves the nearest integer in the low bits
  const Doubles shifted = t * kLog2E + kRound;
  const Doubles k = shifted - kRound;
  const Doubles r = t - k * kLn2High - k * kLn2Low;
  // (e^r - 1 - r) / r^2, interpolated at Chebyshev's points of |r| <= 0.5001 ln 2.
  Doubles p = r * 0x1.2880411bad1aap-22 + 0x1.72c72ca338df0p-19;
  p = p * r + 0x1.a019c9a5652d3p-16;
  p = p * r + 0x1.a019ada3609f3p-13;
  p = p * r + 0x1.6c16c1738ff55p-10;
  p = p * r + 0x1.1111111c478ebp-7;
  p = p * r + 0x1.5555555554cb7p-5;
  p = p * r + 0x1.5555555553b78p-3;
  p = p * r + 0.5;
  const DoubleBits exponent = (DoubleBits)shifted + 1023;
  return {(Doubles)(exponent << 52), r * r * p + r};
}

static inline Doubles exponential(Doubles t) {
  const Exponential e = split_exponential(clamp_lanes(t, -700.0, 700.0));
  return e.scale + e.scale * e.tail;
}

static inline void generic_sigmoid(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n, [](Floats x, int64_t, int64_t) { return sigmoid_of(x); });
}

static inline void generic_silu(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n, [](Floats x, int64_t, int64_t) { return silu_of(x); });
}

static inline void generic_gelu(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n, [](Floats x, int64_t, int64_t) { return gelu_of(x); });
}

static inline void generic_gelu_tanh(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n, [](Floats x, int64_t, int64_t) { return gelu_tanh_of(x); });
}

static inline void generic_tanh(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n, [](Floats x, int64_t, int64_t) { return tanh_of(x); });
}

static inline void generic_elu(float* out, const float* in, const float* slope, int64_t n) {
  for_vectors<Floats>(out, in, n, [slope](Floats x, int64_t i, int64_t count) {
    return elu_of(x, load_lanes<Floats>(slope + i, count));
  });
}

// x > 0 ? x : x * slope
static inline void generic_leaky_relu(float* out, const float* in, const float* slope, int64_t n) {
  for_vectors<Floats>(out, in, n, [slope](Floats x, int64_t i, int64_t count) {
    const Floats scaled = x * load_lanes<Floats>(slope + i, count);
    return x > Floats{} ? x : scaled;
  });
}

static inline void generic_hardswish(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n,
                      [](Floats x, int64_t, int64_t) { return x * clamp_lanes(x + 3.0f, 0.0f, 6.0f) / 6.0f; });
}

static inline void generic_hardsigmoid(float* out, const float* in, int64_t n) {
  for_vectors<Floats>(out, in, n, [](Floats x, int64_t, int64_t) { return clamp_lanes(x + 3.0f, 0.0f, 6.0f) / 6.0f; });
}

// ln(1 + u) of a finite u >= 0: 1 + u = m · 2^k with m around 1, ln(m) = 2 artanh((m - 1) / (m + 1)). Small u lose
// nothing.
static inline double logarithm_of_one_plus(double u) {
  const double s = 1.0 + u;
  double f = u / (u + 2.0);
  int k = 0;
  if (u > 0.4142135623730951) {
    uint64_t bits;
    __builtin_memcpy(&bits, &s, 8);
    k = static_cast<int>(bits >> 52) - 1023;
    bits = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1023} << 52;
    double m;
    __builtin_memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) {
      m *= 0.5;
      ++k;
    }
    f = (m - 1.0) / (m + 1.0);
  }
  const double square = f * f;  // at most 0.0295
  double sum = 0.0;
  for (int j = 21; j >= 1; j -= 2) sum = sum * square + 1.0 / j;
  return k * 0x1.62e42fefa39efp-1 + 2.0 * f * sum;
}

// room[c] = e^(in[c] - most), and zeros up to a multiple of 8.
static inline void exponentials(double* room, const float* in, double most, int64_t channels, int64_t padded) {
  constexpr int64_t kLanes = sizeof(Doubles) / sizeof(double);
  for (int64_t c = 0; c < channels; ++c) room[c] = static_cast<double>(in[c]) - most;
  for (int64_t c = channels; c < padded; ++c) room[c] = 0.0;
  for (int64_t c = 0; c < padded; c += kLanes) {
    Doubles t;
    __builtin_memcpy(&t, room + c, sizeof(t));
    t = exponential(t);
    __builtin_memcpy(room + c, &t, sizeof(t));
  }
  for (int64_t c = channels; c < padded; ++c) room[c] = 0.0;
}

// In 8 parts on every CPU.
static inline double sum_of_eights(const double* values, int64_t n) {
  constexpr int kParts = 8;
  double parts[kParts] = {};
  for (int64_t i = 0; i < n; i += kParts) {
    for (int k = 0; k < kParts; ++k) parts[k] += values[i + k];
  }
  double sum = 0.0;
  for (int k = 0; k < kParts; ++k) sum += parts[k];
  return sum;
}

// One pixel: e^(x - most) / sum of them, or x - most - ln(sum). NaN, or an infinite `most`, make every channel NaN.
static inline void generic_softmax(float* out, const float* in, double* room, int64_t channels, int log) {
  const int64_t padded = (channels + 7) / 8 * 8;
  float most = -__builtin_inff();
  for (int64_t c = 0; c < channels; ++c) most = in[c] > most ? in[c] : most;
  const double shift = static_cast<double>(most);
  exponentials(room, in, shift, channels, padded);
  if (!log) {
    const double sum = sum_of_eights(room, padded);
    for (int64_t c = 0; c < channels; ++c) out[c] = static_cast<float>(room[c] / sum);
    return;
  }
  int64_t largest = 0;
  while (largest + 1 < channels && in[largest] != most) ++largest;
  if (in[largest] == most) room[largest] -= 1.0;  // e^0; what the others sum to may be lost beside it
  const double others = sum_of_eights(room, padded);
  const double logarithm = others == others ? logarithm_of_one_plus(others) : others;
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = static_cast<float>(static_cast<double>(in[c]) - shift - logarithm);
  }
}

static constexpr ActivationFunctions generic_activations() {
  ActivationFunctions f = {};
  f.leaky_relu = generic_leaky_relu;
  f.elu = generic_elu;
  f.hardswish = generic_hardswish;
  f.hardsigmoid = generic_hardsigmoid;
  f.sigmoid = generic_sigmoid;
  f.tanh = generic_tanh;
  f.silu = generic_silu;
  f.gelu = generic_gelu;
  f.gelu_tanh = generic_gelu_tanh;
  f.softmax = generic_softmax;
  return f;
}
