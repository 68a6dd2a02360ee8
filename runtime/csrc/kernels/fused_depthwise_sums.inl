// Sums of depthwise products, of vectors of 64 channels: as bytes in the order of channels, or as int32 in the order
// that packs expect. Part of fused_depthwise.cpp.

// ---- Bytes ----

// Sums [rows][columns][64]. Numbers: a sign per tap, then how many of them are 255.
template <int kernel>
static void sum_bytes(const Column& c, uint8_t* sums) {
  constexpr int kTaps = kernel * kernel;
  constexpr bool kPinned = kTaps <= 9;
  __m512i sign[kPinned ? kTaps : 1];
  if constexpr (kPinned) {
    For<0, kTaps>::each([&](auto k) __attribute__((always_inline)) {
      sign[k] = c.numbers[k];
      __asm__("" : "+v"(sign[k]));
    });
  }
  const Source source = *c.source;
  for (int32_t y = 0; y < c.rows; ++y) {
    const uint8_t* in = c.in + y * source.in_row;
    for (int32_t x = 0; x < c.columns; ++x, in += c.in_column, sums += 64) {
      __m512i sum[2] = {c.numbers[kTaps], _mm512_setzero_si512()};
      For<0, kTaps>::each([&](auto k) __attribute__((always_inline)) {
        constexpr int ky = k.value / kernel, kx = k.value % kernel;
        const __m512i q = _mm512_loadu_si512(in + ky * source.row + source.tap[kx]);
        const __m512i turned = _mm512_xor_si512(q, kPinned ? sign[kPinned ? k.value : 0] : c.numbers[k]);
        sum[k.value % 2] = _mm512_add_epi8(sum[k.value % 2], turned);
      });
      _mm512_store_si512(sums, _mm512_add_epi8(sum[0], sum[1]));
    }
  }
}

// ---- Quads ----

// How rows of outputs share interleaved rows: `rows` of them at a time, from `groups` groups of four rows; row r begins
// at row r * stride.
template <int kernel, int stride, int rows>
struct Sharing {
  static constexpr int kKernel = kernel, kStride = stride, kRows = rows;
  static constexpr int kRead = kernel + (rows - 1) * stride;
  static constexpr int kGroups = (kRead + 3) / 4;
  // Whether row r has taps in group g.
  static constexpr bool used(int r, int g) { return 4 * g + 3 >= r * stride && 4 * g < r * stride + kernel; }
  // How many of the pairs (r, g) before this one are used.
  static constexpr int index(int r, int g) {
    int count = 0;
    for (int i = 0; i < r * kGroups + g; ++i) count += used(i / kGroups, i % kGroups);
    return count;
  }
  static constexpr int kUsed = index(rows, 0);
};

// Four rows of 64 channels: dword lane d of vector v is channel 16 (d / 4) + 4 v + d % 4.
static inline __attribute__((always_inline)) void interleave(const uint8_t* const* row, int64_t at, __m512i* quads) {
  const __m512i r0 = _mm512_loadu_si512(row[0] + at), r1 = _mm512_loadu_si512(row[1] + at);
  const __m512i r2 = _mm512_loadu_si512(row[2] + at), r3 = _mm512_loadu_si512(row[3] + at);
  const __m512i low01 = _mm512_unpacklo_epi8(r0, r1), high01 = _mm512_unpackhi_epi8(r0, r1);
  const __m512i low23 = _mm512_unpacklo_epi8(r2, r3), high23 = _mm512_unpackhi_epi8(r2, r3);
  quads[0] = _mm512_unpacklo_epi16(low01, low23);
  quads[1] = _mm512_unpackhi_epi16(low01, low23);
  quads[2] = _mm512_unpacklo_epi16(high01, high23);
  quads[3] = _mm512_unpackhi_epi16(high01, high23);
}

// Four taps of row r of outputs in group g, each 1 where the row has it.
template <class S>
constexpr int32_t ones_of(int r, int g) {
  int32_t ones = 0;
  for (int j = 3; j >= 0; --j) {
    const int tap = 4 * g + j - r * S::kStride;
    ones = ones << 8 | (tap >= 0 && tap < S::kKernel ? 1 : 0);
  }
  return ones;
}

// The products of column kx of the kernel. Numbers: dwords of weights [kernel_w][used pairs of row and group]; or every
// weight is 1.
template <class S, bool ones, int kx>
static inline __attribute__((always_inline)) void add_quads(const __m512i* numbers, const __m512i* quads,
                                                            __m512i* sum) {
  For<0, S::kRows * S::kGroups>::each([&](auto pair) __attribute__((always_inline)) {
    constexpr int r = pair.value / S::kGroups, g = pair.value % S::kGroups;
    if constexpr (S::used(r, g)) {
      For<0, 4>::each([&](auto v) __attribute__((always_inline)) {
        constexpr int number = kx * S::kUsed + S::index(r, g);
        const __m512i weights = ones ? _mm512_set1_epi32(ones_of<S>(r, g)) : numbers[4 * number + v.value];
        sum[4 * r + v] = _mm512_dpbusd_epi32(sum[4 * r + v], quads[4 * g + v], weights);
      });
    }
  });
}

template <class S>
static inline __attribute__((always_inline)) void clear_sums(__m512i* sum) {
  For<0, S::kRows * 4>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm512_setzero_si512(); });
}

// Where what rows of outputs read begins, the rows behind the last one being the last: their weights are 0, or their
// outputs are not wanted.
template <class S>
struct RowsRead {
  const uint8_t* row[4 * S::kGroups];
  int32_t live;  // rows of outputs

  inline __attribute__((always_inline)) RowsRead(const Column& c, const Source& source, int32_t y) {
    live = c.rows - y < S::kRows ? c.rows - y : S::kRows;
    const int32_t last = (live - 1) * S::kStride + S::kKernel - 1;
    for (int r = 0; r < 4 * S::kGroups; ++r) row[r] = c.in + y * source.in_row + (r < last ? r : last) * source.row;
  }
};

template <class S>
static inline __attribute__((always_inline)) void store_quads(uint8_t* to, int64_t row_bytes, int32_t live,
                                                              const __m512i* sum) {
  For<0, S::kRows>::each([&](auto r) __attribute__((always_inline)) {
    if (r >= live) return;
    For<0, 4>::each([&](auto v) __attribute__((always_inline)) {
      _mm512_store_si512(to + r * row_bytes + 64 * v, sum[4 * r + v]);
    });
  });
}

// Sums [rows][columns][4][16]. With `halves` the numbers are (c - 1) / 2, and what they give is doubled and added to
// the sum of the codes.
template <class S, bool halves>
static void sum_quads(const Column& c, uint8_t* sums) {
  const Source source = *c.source;
  const int64_t row_bytes = int64_t{c.columns} * 256;
  for (int32_t y = 0; y < c.rows; y += S::kRows, sums += S::kRows * row_bytes) {
    const RowsRead<S> rows(c, source, y);
    int64_t at = 0;
    uint8_t* to = sums;
    for (int32_t x = 0; x < c.columns; ++x, at += c.in_column, to += 256) {
      __m512i sum[S::kRows * 4], codes[S::kRows * 4];
      clear_sums<S>(sum);
      if (halves) clear_sums<S>(codes);
      For<0, S::kKernel>::each([&](auto kx) __attribute__((always_inline)) {
        __m512i quads[4 * S::kGroups];
        For<0, S::kGroups>::each([&](auto g) __attribute__((always_inline)) {
          interleave(rows.row + 4 * g, at + source.tap[kx], quads + 4 * g);
        });
        add_quads<S, false, kx.value>(c.numbers, quads, sum);
        if (halves) add_quads<S, true, kx.value>(c.numbers, quads, codes);
      });
      For<0, S::kRows * 4>::each([&](auto i) __attribute__((always_inline)) {
        if (halves) sum[i] = _mm512_add_epi32(_mm512_add_epi32(sum[i], sum[i]), codes[i]);
      });
      store_quads<S>(to, row_bytes, rows.live, sum);
    }
  }
}

// 3x3 where a column is one pixel to the right of the one before: two of its three columns are interleaved already.
template <class S, bool halves>
static void slide_quads(const Column& c, uint8_t* sums) {
  static_assert(S::kKernel == 3 && S::kGroups == 1, "columns stay in registers");
  const Source source = *c.source;
  const int64_t row_bytes = int64_t{c.columns} * 256;
  for (int32_t y = 0; y < c.rows; y += S::kRows, sums += S::kRows * row_bytes) {
    const RowsRead<S> rows(c, source, y);
    int64_t at = 0;
    uint8_t* to = sums;
    __m512i quads[12];
    For<0, 2>::each([&](auto kx)
                        __attribute__((always_inline)) { interleave(rows.row, source.tap[kx], quads + 4 * kx); });
    for (int32_t x = 0; x < c.columns; ++x, at += c.in_column, to += 256) {
      __m512i sum[S::kRows * 4];
      clear_sums<S>(sum);
      interleave(rows.row, at + source.tap[2], quads + 8);
      For<0, 3>::each([&](auto kx) __attribute__((always_inline)) {
        add_quads<S, false, kx.value>(c.numbers, quads + 4 * kx, sum);
      });
      if (halves) {
        For<0, S::kRows * 4>::each([&](auto i)
                                       __attribute__((always_inline)) { sum[i] = _mm512_add_epi32(sum[i], sum[i]); });
        For<0, 3>::each([&](auto kx) __attribute__((always_inline)) {
          add_quads<S, true, kx.value>(c.numbers, quads + 4 * kx, sum);
        });
      }
      For<0, 8>::each([&](auto i) __attribute__((always_inline)) { quads[i] = quads[i + 4]; });
      store_quads<S>(to, row_bytes, rows.live, sum);
    }
  }
}

template <class S, bool halves>
static void quads(const Column& c, uint8_t* sums) {
  if constexpr (S::kKernel == 3 && S::kStride == 1) {
    if (c.columns > 1 && c.in_column == c.source->tap[1]) return slide_quads<S, halves>(c, sums);
  }
  sum_quads<S, halves>(c, sums);
}
