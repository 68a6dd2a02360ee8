// Sums in double: of a list in 32 lanes, and of each channel over pixels. Part of norms.inl.

constexpr int kDoubles = sizeof(Doubles) / sizeof(double);
constexpr int kLaneVectors = kSumLanes / kDoubles;

// By name: compilers take a conversion of vectors for one of halves.
static inline Doubles widened(const float* from) {
#if defined(__AVX512F__)
  return _mm512_cvtps_pd(_mm256_loadu_ps(from));
#elif defined(__AVX__)
  return _mm256_cvtps_pd(_mm_loadu_ps(from));
#else
  return __builtin_convertvector(load<FloatHalf>(from), Doubles);
#endif
}
static inline Doubles widened(const double* from) { return load<Doubles>(from); }

// Lane l takes lane l + 16, 8, 4, 2, 1: halves of what is left, first of vectors, then of one.
static inline double sum_of_lanes(Doubles (&sum)[kLaneVectors]) {
#pragma GCC unroll 4
  for (int half = kLaneVectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int v = 0; v < half; ++v) sum[v] += sum[v + half];
  }
  double lane[kDoubles];
  store(lane, sum[0]);
#pragma GCC unroll 4
  for (int half = kDoubles / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

// The sum of term(x) of a list; term takes vectors and single numbers.
template <typename Number, typename Term>
static inline double sum_in_lanes(const Number* in, int64_t n, const Term& term) {
  Doubles sum[kLaneVectors] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
#pragma GCC unroll 16
    for (int v = 0; v < kLaneVectors; ++v) sum[v] += term(widened(in + i + v * kDoubles));
  }
#pragma GCC unroll 16
  for (int v = 0; v < kLaneVectors; ++v, i += kDoubles) {
    if (i + kDoubles <= n) {
      sum[v] += term(widened(in + i));
    } else {
      for (int l = 0; i + l < n; ++l) sum[v][l] += term(static_cast<double>(in[i + l]));
    }
  }
  return sum_of_lanes(sum);
}

static inline double sum_of_floats(const float* in, int64_t n) {
  return sum_in_lanes(in, n, [](auto x) { return x; });
}

static inline double sum_of_doubles(const double* in, int64_t n) {
  return sum_in_lanes(in, n, [](auto x) { return x; });
}

static inline double squares_of_floats(const float* in, double mean, int64_t n) {
  return sum_in_lanes(in, n, [mean](auto x) { return (x - mean) * (x - mean); });
}

// V vectors of channels: sums[c] += term(in[p * step + c], c).
template <int V, typename Term>
static inline void add_vectors(double* sums, const float* in, int64_t step, int64_t pixels, const Term& term) {
  Doubles sum[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) sum[v] = load<Doubles>(sums + v * kDoubles);
  for (int64_t p = 0; p < pixels; ++p, in += step) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[v] += term(widened(in + v * kDoubles), v * kDoubles);
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) store(sums + v * kDoubles, sum[v]);
}

// `term_from` gives the term of the channels from one on: of a vector, or of a single number.
template <typename TermFrom>
static inline void add_terms(double* sums, const float* in, int64_t step, int64_t pixels, int64_t n,
                             const TermFrom& term_from) {
  constexpr int kAtOnce = 8;
  int64_t c = 0;
  for (; c + kAtOnce * kDoubles <= n; c += kAtOnce * kDoubles) {
    add_vectors<kAtOnce>(sums + c, in + c, step, pixels, term_from(c));
  }
  for (; c + kDoubles <= n; c += kDoubles) add_vectors<1>(sums + c, in + c, step, pixels, term_from(c));
  for (; c < n; ++c) {
    double sum = sums[c];
    for (int64_t p = 0; p < pixels; ++p) sum += term_from(c)(static_cast<double>(in[p * step + c]), 0);
    sums[c] = sum;
  }
}

static void add_columns(double* sums, const float* in, int64_t step, int64_t pixels, int64_t n) {
  add_terms(sums, in, step, pixels, n, [](int64_t) { return [](auto x, int64_t) { return x; }; });
}

struct SquareOfDifference {
  const double* mean;
  Doubles operator()(Doubles x, int64_t c) const {
    const Doubles difference = x - load<Doubles>(mean + c);
    return difference * difference;
  }
  double operator()(double x, int64_t c) const { return (x - mean[c]) * (x - mean[c]); }
};

static void add_squares(double* sums, const double* mean, const float* in, int64_t step, int64_t pixels, int64_t n) {
  add_terms(sums, in, step, pixels, n, [mean](int64_t c) { return SquareOfDifference{mean + c}; });
}
