// The largest or smallest of a list in 32 lanes, of each channel, and where it stands. Comparisons with NaN are false,
// so it is looked for by itself. Part of norms.inl.

constexpr int kFloats = sizeof(Floats) / sizeof(float);
constexpr int kExtremeVectors = kSumLanes / kFloats;

// Which of two wins: the first one unless the second goes beyond it.
template <bool smallest, typename Vector>
static inline Vector further(Vector one, Vector other) {
  return (smallest ? other < one : other > one) ? other : one;
}

template <bool smallest>
static inline float extreme_in_lanes(const float* in, int64_t n) {
  const float none = smallest ? __builtin_inff() : -__builtin_inff();
  Floats most[kExtremeVectors];
  for (Floats& lanes : most) lanes = Floats{} + none;
  auto is_nan = Floats{} != Floats{};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < kExtremeVectors; ++v) {
      const Floats x = load<Floats>(in + i + v * kFloats);
      most[v] = further<smallest>(most[v], x);
      is_nan |= x != x;
    }
  }
  float lane[kSumLanes];
  __builtin_memcpy(lane, most, sizeof(lane));
  bool any_nan = false;
  for (int l = 0; l < kFloats; ++l) any_nan |= is_nan[l] != 0;
  for (int l = 0; i + l < n; ++l) {
    lane[l] = further<smallest>(lane[l], in[i + l]);
    any_nan |= in[i + l] != in[i + l];
  }
  if (any_nan) return __builtin_nanf("");
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lane[l] = further<smallest>(lane[l], lane[l + half]);
  }
  return lane[0];
}

static float extreme(const float* in, int64_t n, int32_t smallest) {
  return smallest ? extreme_in_lanes<true>(in, n) : extreme_in_lanes<false>(in, n);
}

template <bool smallest>
static inline void extremes(float* out, const float* in, int64_t n) {
  int64_t i = 0;
  for (; i + kFloats <= n; i += kFloats) {
    const Floats x = load<Floats>(in + i), before = load<Floats>(out + i);
    store(out + i, x != x ? x : further<smallest>(before, x));
  }
  for (; i < n; ++i) out[i] = in[i] != in[i] ? in[i] : further<smallest>(out[i], in[i]);
}

static void extreme_columns(float* out, const float* in, int64_t n, int32_t smallest) {
  smallest ? extremes<true>(out, in, n) : extremes<false>(out, in, n);
}

typedef int32_t Places __attribute__((vector_size(sizeof(Floats))));

template <bool smallest>
static inline void places_of_extremes(float* out, int32_t* index, const float* in, int32_t at, int64_t n) {
  int64_t i = 0;
  for (; i + kFloats <= n; i += kFloats) {
    const Floats x = load<Floats>(in + i), before = load<Floats>(out + i);
    const Places wins = ((smallest ? x < before : x > before) | (x != x)) & (before == before);
    store(out + i, wins ? x : before);
    store(index + i, wins ? Places{} + at : load<Places>(index + i));
  }
  for (; i < n; ++i) {
    const bool wins = ((smallest ? in[i] < out[i] : in[i] > out[i]) || in[i] != in[i]) && out[i] == out[i];
    if (!wins) continue;
    out[i] = in[i];
    index[i] = at;
  }
}

static void extreme_places(float* out, int32_t* index, const float* in, int32_t at, int64_t n, int32_t smallest) {
  smallest ? places_of_extremes<true>(out, index, in, at, n) : places_of_extremes<false>(out, index, in, at, n);
}
