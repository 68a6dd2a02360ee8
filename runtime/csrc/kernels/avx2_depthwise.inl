// Sums of depthwise_blocks.inl with AVX2. Text of avx2.cpp.
//
//   bytes   weights of one bit: -1 turns all bits of a code around, which is -q - 1:
//             D = sum over taps of (q xor s) + the number of taps with s, s = 0 or 255
//   words   two rows interleaved, vpmaddubsw adds two products in 16 bits; no sum of any of them is beyond 32766
//   ints    the same, widened to 16 bits, and vpmaddwd
//
// Rows y0 y1 | y2 y3 of the input are interleaved once for two rows of outputs, whose weights are moved: for 3x3
//   row 0   w0 w1 | w2 0       row 1   0 w0 | w1 w2
// An interleaved vector of bytes holds channels 0 .. 7 and 16 .. 23, or 8 .. 15 and 24 .. 31, as packs expect it.

static int32_t dw_word_lane(int32_t c) { return c / 8 % 2 * 16 + c / 16 * 8 + c % 8; }
static int32_t dw_int_lane(int32_t c) { return c % 16 / 4 * 8 + c / 16 * 4 + c % 4; }

// How two rows of outputs share pairs of rows; row r begins at row r * stride.
template <int kernel, int stride>
struct DwPairs {
  static constexpr int kKernel = kernel, kStride = stride;
  static constexpr int kPairs = (kernel + stride + 1) / 2;
  // Whether row r has taps in pair g.
  static constexpr bool used(int r, int g) { return 2 * g + 1 >= r * stride && 2 * g < r * stride + kernel; }
  // How many of the (r, g) before this one are used.
  static constexpr int index(int r, int g) {
    int count = 0;
    for (int i = 0; i < r * kPairs + g; ++i) count += used(i / kPairs, i % kPairs);
    return count;
  }
  static constexpr int kUsed = index(2, 0);
};

// f(DwPairs) of this layer. Rows of outputs further apart than 2 share nothing: each is the first of two.
template <class F>
static void dw_with_pairs(const FusedSpec* s, const F& f) {
  const bool two = s->stride_h == 2;
  if (s->kernel_h == 3) return two ? f(DwPairs<3, 2>{}) : f(DwPairs<3, 1>{});
  if (s->kernel_h == 5) return two ? f(DwPairs<5, 2>{}) : f(DwPairs<5, 1>{});
  return two ? f(DwPairs<7, 2>{}) : f(DwPairs<7, 1>{});
}

static int64_t dw_weight_bytes(const FusedSpec* s, DwKind kind) {
  if (kind == kDwBytes) return (s->kernel_h * s->kernel_w + 1) * kBlock;
  int64_t numbers = 0;
  dw_with_pairs(s, [&](auto pairs) { numbers = int64_t{s->kernel_w} * decltype(pairs)::kUsed; });
  return numbers * 2 * kBlock * (kind == kDwWords ? 1 : 2);
}

// Bytes: [tap][32] of s, then how many there are. Else [kernel_w][(r, g) used][32 pairs].
static void dw_put_weights(const FusedSpec* s, DwKind kind, const uint8_t* m, int c, uint8_t* to) {
  const int taps = s->kernel_h * s->kernel_w;
  if (kind == kDwBytes) {
    for (int k = 0; k < taps; ++k) {
      to[k * kBlock + c] = m[k] == 0 ? 255 : 0;
      to[taps * kBlock + c] = static_cast<uint8_t>(to[taps * kBlock + c] + (m[k] == 0));
    }
    return;
  }
  dw_with_pairs(s, [&](auto pairs) {
    using P = decltype(pairs);
    for (int k = 0; k < taps; ++k) {
      const auto code = static_cast<int16_t>(s->code_step * m[k] + s->lowest_code);
      for (int r = 0; r < 2; ++r) {
        const int row = r * P::kStride + k / P::kKernel, number = k % P::kKernel * P::kUsed + P::index(r, row / 2);
        if (kind == kDwWords) {
          to[(number * kBlock + dw_word_lane(c)) * 2 + row % 2] = static_cast<uint8_t>(code);
        } else {
          __builtin_memcpy(to + (number * kBlock + dw_int_lane(c)) * 4 + row % 2 * 2, &code, 2);
        }
      }
    }
  });
}

// ---- Sums ----

template <int kernel>
static void dw_sum_bytes(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                         uint8_t* sums) {
  constexpr int kTaps = kernel * kernel;
  const DwWindow w = *window;
  const __m256i flipped = load(weights + kTaps * kBlock);
  for (int r = 0; r < live; ++r) {
    uint8_t* to = sums + r * kDwPixels * kBlock;
    const uint8_t* at = in + r * w.in_row;
    for (int p = 0; p < pixels; ++p, at += w.in_pixel, to += kBlock) {
      __m256i sum[2] = {flipped, _mm256_setzero_si256()};
      For<0, kTaps>::each([&](auto k) __attribute__((always_inline)) {
        const uint8_t* tap = at + k / kernel * w.row + w.tap[k % kernel];
        const __m256i turned = _mm256_xor_si256(load(tap), load(weights + k * kBlock));
        sum[k % 2] = _mm256_add_epi8(sum[k % 2], turned);
      });
      store(to, _mm256_add_epi8(sum[0], sum[1]));
    }
  }
}

// Where what two rows of outputs read begins, the rows behind the last one being the last: their weights are 0, or
// their outputs are not wanted.
template <class P>
struct DwRowsRead {
  const uint8_t* row[2 * P::kPairs];
  DwRowsRead(const uint8_t* in, const DwWindow* w, int live) {
    const int last = (live - 1) * P::kStride + P::kKernel - 1;
    for (int r = 0; r < 2 * P::kPairs; ++r) row[r] = in + (r < last ? r : last) * w->row;
  }
};

template <class P>
static void dw_sum_words(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                         uint8_t* sums) {
  const DwRowsRead<P> rows(in, window, live);
  const DwWindow w = *window;
  int64_t at = 0;
  for (int p = 0; p < pixels; ++p, at += w.in_pixel, sums += 2 * kBlock) {
    __m256i sum[4];
    For<0, 4>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm256_setzero_si256(); });
    For<0, P::kKernel>::each([&](auto kx) __attribute__((always_inline)) {
      const int64_t tap = at + w.tap[kx];
      For<0, P::kPairs>::each([&](auto g) __attribute__((always_inline)) {
        const __m256i a = load(rows.row[2 * g] + tap), b = load(rows.row[2 * g + 1] + tap);
        const __m256i half[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
        For<0, 4>::each([&](auto i) __attribute__((always_inline)) {
          constexpr int r = i.value / 2, h = i.value % 2;
          if constexpr (P::used(r, g.value)) {
            const uint8_t* number = weights + ((kx.value * P::kUsed + P::index(r, g.value)) * 2 + h) * kBlock;
            sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(half[h], load(number)));
          }
        });
      });
    });
    store(sums, sum[0]);
    store(sums + kBlock, sum[1]);
    if (live == 1) continue;
    store(sums + 2 * kDwPixels * kBlock, sum[2]);
    store(sums + 2 * kDwPixels * kBlock + kBlock, sum[3]);
  }
}

// 16 channels of a pair of rows, and so of two rows of outputs, at a time: eight sums are half of the registers.
template <class P>
static void dw_sum_ints(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                        uint8_t* sums) {
  const DwRowsRead<P> rows(in, window, live);
  const DwWindow w = *window;
  const __m256i zero = _mm256_setzero_si256();
  int64_t at = 0;
  for (int p = 0; p < pixels; ++p, at += w.in_pixel, sums += 4 * kBlock) {
    __m256i sum[8];
    For<0, 8>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm256_setzero_si256(); });
    For<0, P::kKernel>::each([&](auto kx) __attribute__((always_inline)) {
      const int64_t tap = at + w.tap[kx];
      For<0, P::kPairs>::each([&](auto g) __attribute__((always_inline)) {
        const __m256i a = load(rows.row[2 * g] + tap), b = load(rows.row[2 * g + 1] + tap);
        const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
        const __m256i quarter[4] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                                    _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
        For<0, 8>::each([&](auto i) __attribute__((always_inline)) {
          constexpr int r = i.value / 4, q = i.value % 4;
          if constexpr (P::used(r, g.value)) {
            const uint8_t* number = weights + ((kx.value * P::kUsed + P::index(r, g.value)) * 4 + q) * kBlock;
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(quarter[q], load(number)));
          }
        });
      });
    });
    For<0, 8>::each([&](auto i) __attribute__((always_inline)) {
      if (i.value < 4 || live == 2) store(sums + i / 4 * 4 * kDwPixels * kBlock + i % 4 * kBlock, sum[i]);
    });
  }
}

// Rows of outputs that are further apart than two, or whose kernel's rows are, one after the other.
template <class P, bool words>
static void dw_sum_apart(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                         uint8_t* sums) {
  for (int r = 0; r < live; ++r, in += window->in_row, sums += kDwPixels * kBlock * (words ? 2 : 4)) {
    words ? dw_sum_words<P>(in, window, weights, pixels, 1, sums)
          : dw_sum_ints<P>(in, window, weights, pixels, 1, sums);
  }
}

static DwSum dw_sum(const FusedSpec* s, DwKind kind) {
  if (kind == kDwBytes)
    return s->kernel_h == 3 ? dw_sum_bytes<3> : s->kernel_h == 5 ? dw_sum_bytes<5> : dw_sum_bytes<7>;
  DwSum sum = nullptr;
  dw_with_pairs(s, [&](auto pairs) {
    using P = decltype(pairs);
    const bool words = kind == kDwWords;
    if (s->stride_h > 2 || s->dilation_h != 1) {
      sum = words ? dw_sum_apart<P, true> : dw_sum_apart<P, false>;
    } else {
      sum = words ? dw_sum_words<P> : dw_sum_ints<P>;
    }
  });
  return sum;
}

// ---- Sums to codes ----

// Two vectors of 16 sums.
static inline void dw_words(const uint8_t* sums, DwKind kind, __m256i* words) {
  if (kind == kDwWords) {
    words[0] = load(sums);
    words[1] = load(sums + kBlock);
    return;
  }
  words[0] = _mm256_packs_epi32(load(sums), load(sums + kBlock));
  words[1] = _mm256_packs_epi32(load(sums + 2 * kBlock), load(sums + 3 * kBlock));
}

static inline __m256i dw_byte_codes(const uint8_t* sums, DwKind kind, const uint8_t* thresholds, int levels) {
  __m256i d = load(sums), words[2];
  if (kind != kDwBytes) {
    dw_words(sums, kind, words);
    d = _mm256_packs_epi16(words[0], words[1]);
  }
  __m256i code = _mm256_set1_epi8(static_cast<char>(levels));
  for (int j = 0; j < levels; ++j) {
    code = _mm256_add_epi8(code, _mm256_cmpgt_epi8(load(thresholds + j * kBlock), d));
  }
  return code;
}

static inline __m256i dw_word_codes(const uint8_t* sums, DwKind kind, const uint8_t* thresholds, int levels) {
  __m256i d[2];
  dw_words(sums, kind, d);
  __m256i code[2] = {_mm256_set1_epi16(static_cast<int16_t>(levels)), _mm256_set1_epi16(static_cast<int16_t>(levels))};
  for (int j = 0; j < levels; ++j, thresholds += 2 * kBlock) {
    code[0] = _mm256_add_epi16(code[0], _mm256_cmpgt_epi16(load(thresholds), d[0]));
    code[1] = _mm256_add_epi16(code[1], _mm256_cmpgt_epi16(load(thresholds + kBlock), d[1]));
  }
  return _mm256_packus_epi16(code[0], code[1]);
}

// Four vectors of 8 sums, of the words that have more than 8 bits.
static inline void dw_quarters(const uint8_t* sums, DwKind kind, __m256i* d) {
  if (kind == kDwInts) {
    for (int v = 0; v < 4; ++v) d[v] = load(sums + v * kBlock);
    return;
  }
  for (int h = 0; h < 2; ++h) {
    const __m256i words = load(sums + h * kBlock), signs = _mm256_srai_epi16(words, 15);
    d[2 * h] = _mm256_unpacklo_epi16(words, signs);
    d[2 * h + 1] = _mm256_unpackhi_epi16(words, signs);
  }
}

// NaN is the second operand, which min returns, and becomes the least int32, as what is below all of them does.
static inline __m256i dw_line_codes(const uint8_t* sums, DwKind kind, const float* line, int levels) {
  __m256i d[4];
  dw_quarters(sums, kind, d);
  const __m256 n = _mm256_set1_ps(static_cast<float>(levels));
  for (int v = 0; v < 4; ++v) {
    const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(d[v]), _mm256_loadu_ps(line + 8 * v));
    d[v] = _mm256_cvtps_epi32(_mm256_min_ps(n, _mm256_add_ps(scaled, _mm256_loadu_ps(line + kBlock + 8 * v))));
  }
  return _mm256_packus_epi16(_mm256_packs_epi32(d[0], d[1]), _mm256_packs_epi32(d[2], d[3]));
}

static inline void dw_ints(DwKind kind, const uint8_t* sums, int32_t* tile) {
  if (kind == kDwBytes) {
    for (int v = 0; v < 4; ++v) {
      store(tile + 8 * v, _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(sums + 8 * v))));
    }
    return;
  }
  __m256i d[4];
  dw_quarters(sums, kind, d);
  for (int h = 0; h < 2; ++h) {
    store(tile + 8 * h, _mm256_permute2x128_si256(d[2 * h], d[2 * h + 1], 0x20));
    store(tile + 16 + 8 * h, _mm256_permute2x128_si256(d[2 * h], d[2 * h + 1], 0x31));
  }
}
