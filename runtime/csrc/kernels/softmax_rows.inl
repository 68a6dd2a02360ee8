// Softmax of one row, in float32: less than 3 units in the last place away from the true value where a row is not much
// longer than a thousand numbers, which check_functions measures. Part of functions.inl.
//
// Sums have one order on every CPU: blocks of 64 numbers, in which 16 lanes each add four; the lanes of all blocks by
// Kahan's rule, which loses nothing as rows grow longer; then the 16 lanes by halves, in double.

constexpr int64_t kSumLanes = 16, kSumBlock = 4 * kSumLanes;
constexpr int64_t kParts = kSumLanes / kFloatLanes;  // vectors that make 16 lanes

// 16 lanes of sums, and by how much each is too large.
struct LaneSums {
  Floats sum[kParts], excess[kParts];
};

// Adds a block of 64 numbers.
static inline void add_block(LaneSums* sums, const float* block) {
  for (int64_t part = 0; part < kParts; ++part) {
    Floats lanes[4];
    for (int64_t i = 0; i < 4; ++i)
      __builtin_memcpy(&lanes[i], block + i * kSumLanes + part * kFloatLanes, sizeof(Floats));
    const Floats term = ((lanes[0] + lanes[1]) + lanes[2]) + lanes[3] - sums->excess[part];
    const Floats sum = sums->sum[part] + term;
    sums->excess[part] = (sum - sums->sum[part]) - term;
    sums->sum[part] = sum;
  }
}

// In double, in which the sum of all lanes loses nothing that counts.
static inline double sum_of_lanes(const LaneSums& sums) {
  float sum[kSumLanes], excess[kSumLanes];
  __builtin_memcpy(sum, sums.sum, sizeof(sum));
  __builtin_memcpy(excess, sums.excess, sizeof(excess));
  double lanes[kSumLanes];
  for (int64_t i = 0; i < kSumLanes; ++i) lanes[i] = static_cast<double>(sum[i]) - static_cast<double>(excess[i]);
  for (int64_t half = kSumLanes / 2; half >= 1; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// The largest number but for NaN, -infinity if there is none.
static inline float largest_of_row(const float* in, int64_t n) {
  const Floats lowest = all_lanes(-__builtin_inff());
  Floats largest = lowest;
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes) largest = most(load_lanes(in + i, kFloatLanes), largest);
  if (i < n) {
    Floats last = lowest;
    __builtin_memcpy(&last, in + i, static_cast<unsigned long>(n - i) * sizeof(float));
    largest = most(last, largest);
  }
  float lanes[kFloatLanes];
  __builtin_memcpy(lanes, &largest, sizeof(lanes));
  float y = lanes[0];
  for (int64_t k = 1; k < kFloatLanes; ++k) y = lanes[k] > y ? lanes[k] : y;
  return y;
}

// Where a number first is in a row; n if it is nowhere.
static inline int64_t first_of(const float* in, int64_t n, float number) {
  int64_t at = 0;
  for (; at + kSumBlock <= n; at += kSumBlock) {
    int found = 0;
    for (int64_t i = 0; i < kSumBlock; ++i) found |= in[at + i] == number;
    if (found) break;
  }
  while (at < n && in[at] != number) ++at;
  return at;
}

// e^(x - shift), x <= shift, of the difference before it is rounded.
static inline Floats shifted_exponential(Floats x, Floats shift) {
  const Floats t = x - shift;
  const Floats back = t - x;
  const Floats low = (x - (t - back)) - (shift + back);  // x - shift = t + low, exactly
  const Reduced e = reduced(t, low);
  const Floats power = times_power(small_exponential(e.r) + 1.0f, e.k);
  return t < all_lanes(-104.0f) ? Floats{} : power;
}

// The numbers of a row from `first` on, of 64 at most; zeros behind them.
static inline void exponential_block(float* block, const float* in, Floats shift, int64_t count) {
  int64_t i = 0;
  for (; i + kFloatLanes <= count; i += kFloatLanes) {
    const Floats y = shifted_exponential(load_lanes(in + i, kFloatLanes), shift);
    __builtin_memcpy(block + i, &y, sizeof(y));
  }
  for (; i < kSumBlock; i += kFloatLanes) {
    Floats y = {};
    if (i < count) y = shifted_exponential(load_lanes(in + i, count - i), shift);
    __builtin_memcpy(block + i, &y, sizeof(y));
  }
  for (int64_t k = count; k < kSumBlock; ++k) block[k] = 0.0f;
}

static void softmax_row(float* out, const float* in, int64_t n) {
  const Floats shift = all_lanes(largest_of_row(in, n));
  LaneSums sums = {};
  for (int64_t i = 0; i < n; i += kSumBlock) {
    const int64_t count = n - i < kSumBlock ? n - i : kSumBlock;
    alignas(64) float block[kSumBlock];
    exponential_block(block, in + i, shift, count);
    add_block(&sums, block);
    __builtin_memcpy(out + i, block, static_cast<unsigned long>(count) * sizeof(float));
  }
  const double inverse = 1.0 / sum_of_lanes(sums);
  const Floats factor = all_lanes(static_cast<float>(inverse));
  const Floats low = all_lanes(static_cast<float>(inverse - static_cast<double>(factor[0])));
  for_vectors(out, out, n, [factor, low](Floats x, int64_t, int64_t) { return fused(x, factor, x * low); });
}

// ln(1 + u) of u >= 0, in double: 1 + u = m · 2^k with m around 1, ln(m) = 2 artanh((m - 1) / (m + 1)). Small u lose
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

// x - shift - ln(sum): what the others sum to may be lost beside the e^0 of the largest, so it is left out of the sum.
static void log_softmax_row(float* out, const float* in, int64_t n) {
  const float largest = largest_of_row(in, n);
  const Floats shift = all_lanes(largest);
  const int64_t at = first_of(in, n, largest);
  LaneSums sums = {};
  for (int64_t i = 0; i < n; i += kSumBlock) {
    alignas(64) float block[kSumBlock];
    exponential_block(block, in + i, shift, n - i < kSumBlock ? n - i : kSumBlock);
    if (at >= i && at < i + kSumBlock) block[at - i] -= 1.0f;  // NaN stays
    add_block(&sums, block);
  }
  const double others = sum_of_lanes(sums);
  const double logarithm = others == others ? logarithm_of_one_plus(others) : others;
  const Floats lost = all_lanes(static_cast<float>(logarithm));
  for_vectors(out, in, n, [shift, lost](Floats x, int64_t, int64_t) { return (x - shift) - lost; });
}
