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

// Sums [rows][columns][4][16]. Numbers: dwords of weights [kernel_w][used pairs of row and group][parts].
template <class S, int parts>
static void sum_quads(const Column& c, uint8_t* sums) {
  const Source source = *c.source;
  const int64_t row_bytes = int64_t{c.columns} * 256;
  for (int32_t y = 0; y < c.rows; y += S::kRows, sums += S::kRows * row_bytes) {
    const int32_t live = c.rows - y < S::kRows ? c.rows - y : S::kRows;
    const int32_t last = (live - 1) * S::kStride + S::kKernel - 1;  // of the rows that may be read
    const uint8_t* row[4 * S::kGroups];
    for (int r = 0; r < 4 * S::kGroups; ++r) row[r] = c.in + y * source.in_row + (r < last ? r : last) * source.row;
    int64_t at = 0;
    uint8_t* to = sums;
    for (int32_t x = 0; x < c.columns; ++x, at += c.in_column, to += 256) {
      __m512i sum[S::kRows * 4];
      For<0, S::kRows * 4>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm512_setzero_si512(); });
      For<0, S::kKernel>::each([&](auto kx) __attribute__((always_inline)) {
        __m512i quads[4 * S::kGroups];
        For<0, S::kGroups>::each([&](auto g) __attribute__((always_inline)) {
          interleave(row + 4 * g, at + source.tap[kx], quads + 4 * g);
        });
        For<0, S::kRows * S::kGroups>::each([&](auto pair) __attribute__((always_inline)) {
          constexpr int r = pair.value / S::kGroups, g = pair.value % S::kGroups;
          if constexpr (S::used(r, g)) {
            For<0, 4 * parts>::each([&](auto i) __attribute__((always_inline)) {
              constexpr int v = i.value % 4, part = i.value / 4;
              constexpr int number = (kx.value * S::kUsed + S::index(r, g)) * parts + part;
              sum[4 * r + v] = _mm512_dpbusd_epi32(sum[4 * r + v], quads[4 * g + v], c.numbers[4 * number + v]);
            });
          }
        });
      });
      For<0, S::kRows>::each([&](auto r) __attribute__((always_inline)) {
        if (r >= live) return;
        For<0, 4>::each([&](auto v) __attribute__((always_inline)) {
          _mm512_store_si512(to + r * row_bytes + 64 * v, sum[4 * r + v]);
        });
      });
    }
  }
}
