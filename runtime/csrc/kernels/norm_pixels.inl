// Pixels that are normalised: each by itself, or by means and factors of their channels. Part of norms.inl.

static inline float factor_of(int32_t by, double squares, double count, float eps) {
  if (by == kNorm) {
    const float norm = static_cast<float>(__builtin_sqrt(static_cast<double>(static_cast<float>(squares))));
    return static_cast<float>(1.0 / static_cast<double>(norm < eps ? eps : norm));
  }
  // As float32 it is infinite where PyTorch's is, and then the factor is 0.
  const auto mean_square = static_cast<double>(static_cast<float>(squares / count));
  return static_cast<float>(1.0 / __builtin_sqrt(mean_square + static_cast<double>(eps)));
}

// The sum of the squares of (in[i] - middle), each step rounded to float32, in lanes; those of 512 numbers are added in
// float32, what comes of it in double.
static inline double squares_in_runs(const float* in, float middle, int64_t n) {
  constexpr int kVectors = kSumLanes / kFloats;
  constexpr int64_t kRun = 16 * kSumLanes;
  double lane[kSumLanes] = {};
  for (int64_t first = 0; first < n; first += kRun) {
    const int64_t end = first + kRun < n ? first + kRun : n;
    Floats sum[kVectors] = {};
    int64_t i = first;
    for (; i + kSumLanes <= end; i += kSumLanes) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Floats difference = load<Floats>(in + i + v * kFloats) - middle;
        sum[v] += difference * difference;
      }
    }
    float part[kSumLanes];
    __builtin_memcpy(part, sum, sizeof(part));
    int l = 0;
    for (; i + kDoubles <= end; l += kDoubles, i += kDoubles) {
      const FloatHalf difference = load<FloatHalf>(in + i) - middle;
      store(part + l, load<FloatHalf>(part + l) + difference * difference);
    }
    for (; i < end; ++l, ++i) part[l] += (in[i] - middle) * (in[i] - middle);
    for (int v = 0; v < kSumLanes; v += kDoubles) store(lane + v, load<Doubles>(lane + v) + widened(part + v));
  }
  return sum_of_doubles(lane, kSumLanes);
}

// out = of(in, c) for the n channels of a pixel: vectors, then what is left, number by number.
template <typename Function>
static inline void for_channels(float* out, const float* in, int64_t n, const Function& of) {
  int64_t c = 0;
  for (; c + kFloats <= n; c += kFloats) store(out + c, of(load<Floats>(in + c), c));
  for (; c + kDoubles <= n; c += kDoubles) store(out + c, of(load<FloatHalf>(in + c), c));
  for (; c < n; ++c) out[c] = of(in[c], c);
}

// What belongs to channel c, as a vector of the same kind as x, or as a number.
template <typename Vector>
static inline Vector beside(Vector, const float* numbers, int64_t c) {
  return load<Vector>(numbers + c);
}
static inline float beside(float, const float* numbers, int64_t c) { return numbers[c]; }

template <bool has_weight, bool has_bias, typename Mean, typename Factor>
static inline void standardized(float* out, const float* in, int64_t n, const Mean& mean, const Factor& factor,
                                const float* weight, const float* bias) {
  for_channels(out, in, n, [&](auto x, int64_t c) {
    auto y = (x - mean(x, c)) * factor(x, c);
    if constexpr (has_weight) y = y * beside(x, weight, c);
    if constexpr (has_bias) y = y + beside(x, bias, c);
    return y;
  });
}

template <typename Mean, typename Factor>
static inline void standardize_pixel(float* out, const float* in, int64_t n, const Mean& mean, const Factor& factor,
                                     const float* weight, const float* bias) {
  if (weight && bias) return standardized<true, true>(out, in, n, mean, factor, weight, bias);
  if (weight) return standardized<true, false>(out, in, n, mean, factor, weight, bias);
  if (bias) return standardized<false, true>(out, in, n, mean, factor, weight, bias);
  standardized<false, false>(out, in, n, mean, factor, weight, bias);
}

// The squares of n numbers around their mean, which is rounded to `middle` where they are taken.
static inline double squares_around(const float* in, int64_t n, double mean, float middle) {
  const double rounded = mean - static_cast<double>(middle);
  const double squares = squares_in_runs(in, middle, n) - static_cast<double>(n) * (rounded * rounded);
  return squares < 0.0 ? 0.0 : squares;
}

// Several lists at a time, one step of all after the other: the end of a sum, the root and the division of one take as
// long as the sum of the next.
static void normalize(const NormalizePixels* t) {
  constexpr int64_t kAtOnce = 8;
  const int64_t n = t->channels / t->groups, lists = t->pixels * t->groups;
  const auto count = static_cast<double>(n);
  for (int64_t first = 0; first < lists; first += kAtOnce) {
    const int64_t some = lists - first < kAtOnce ? lists - first : kAtOnce;
    const float* in = t->in + first * n;
    double mean[kAtOnce] = {};
    float middle[kAtOnce], factor[kAtOnce];
    for (int64_t i = 0; i < some && t->by == kDeviation; ++i) mean[i] = sum_of_floats(in + i * n, n) / count;
    for (int64_t i = 0; i < some; ++i) {
      middle[i] = static_cast<float>(mean[i]);
      factor[i] = factor_of(t->by, squares_around(in + i * n, n, mean[i], middle[i]), count, t->eps);
    }
    for (int64_t i = 0; i < some; ++i) {
      const int64_t c = t->groups == 1 ? 0 : (first + i) % t->groups * n;
      standardize_pixel(
          t->out + (first + i) * n, in + i * n, n, [by = middle[i]](auto, int64_t) { return by; },
          [by = factor[i]](auto, int64_t) { return by; }, t->weight ? t->weight + c : nullptr,
          t->bias ? t->bias + c : nullptr);
    }
  }
}

static void standardize(const StandardizePixels* t) {
  for (int64_t p = 0; p < t->pixels; ++p) {
    standardize_pixel(
        t->out + p * t->channels, t->in + p * t->channels, t->channels,
        [t](auto x, int64_t c) { return beside(x, t->mean, c); },
        [t](auto x, int64_t c) { return beside(x, t->factor, c); },
        t->weight ? t->weight + p * t->weight_step : nullptr, t->bias ? t->bias + p * t->bias_step : nullptr);
  }
}
