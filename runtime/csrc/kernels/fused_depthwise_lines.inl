// Codes of depthwise layers by lines, of D or of y, and y itself, AVX-512. Part of fused_depthwise.cpp, after
// fused_depthwise_finish.inl and fused_lines.inl.

// What is left to do, and with which numbers of a channel, dwords in this order.
enum LineForm {
  kClampedLine,  // D * multiply + offset, clamped as the contract has it
  kInnerLine,    // kPlainLine
  kFmaLine,      // kFusedFma
  kLineOfY,      // y of multiply, offset, norm_multiply, norm_offset; then line_multiply, line_offset
  kUnitOfY,      // kUnitLine: the first four of these
};
constexpr int kLineDwords = 2, kLineOfYDwords = 6, kYDwords = 4;

static LineForm line_form(const FusedSpec* s, int kind) {
  if (!s->epilogue.codes_from_int) return kind == kUnitLine ? kUnitOfY : kLineOfY;
  return kind == kFusedFma ? kFmaLine : kind == kPlainLine ? kInnerLine : kClampedLine;
}

// 16 codes, clamped or not: the packs do the rest.
template <LineForm form>
static inline __attribute__((always_inline)) __m512i line_code(__m512 d, const __m512* numbers, __m512 least,
                                                               __m512 n) {
  if (form == kFmaLine) return _mm512_cvtps_epi32(_mm512_fmadd_ps(d, numbers[0], numbers[1]));
  const __m512 y = _mm512_add_ps(_mm512_mul_ps(d, numbers[0]), numbers[1]);
  if (form == kInnerLine) return _mm512_cvtps_epi32(y);
  if (form == kClampedLine) return rounded_code(y, n);
  const __m512 normed = _mm512_fmadd_ps(y, numbers[2], numbers[3]);
  if (form == kUnitOfY) return _mm512_cvtps_epi32(_mm512_mul_ps(normed, n));
  const __m512 rectified = _mm512_max_ps(least, normed);
  return rounded_code(_mm512_add_ps(_mm512_mul_ps(rectified, numbers[4]), numbers[5]), n);
}

template <LineForm form>
static void line_columns(const Column& c, const Sums& t) {
  constexpr int kDwords = form == kLineOfY ? kLineOfYDwords : form == kUnitOfY ? kYDwords : kLineDwords;
  __m512 numbers[4][kDwords];
  For<0, 4>::each([&](auto v) __attribute__((always_inline)) {
    For<0, kDwords>::each(
        [&](auto k) __attribute__((always_inline)) { numbers[v][k] = _mm512_castsi512_ps(t.numbers[4 * k + v]); });
  });
  const __m512 least = _mm512_set1_ps(t.least), n = _mm512_set1_ps(static_cast<float>((1 << t.bits) - 1));
  const __m512i most = _mm512_set1_epi8(static_cast<char>((1 << t.bits) - 1));
  const uint8_t* from = t.from;
  uint8_t* to = t.to;
  for (int32_t y = 0; y < c.rows; ++y, to += t.row) {
    int64_t at = c.at;
    for (int32_t x = 0; x < c.columns; ++x, at += c.column, from += 256) {
      __m512i code[4];
      For<0, 4>::each([&](auto v) __attribute__((always_inline)) {
        const __m512 d = _mm512_cvtepi32_ps(_mm512_load_si512(from + 64 * v));
        code[v] = line_code<form>(d, numbers[v], least, n);
      });
      const __m512i codes =
          _mm512_packus_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
      store_codes(t, to, at, _mm512_min_epu8(codes, most), c.bytes);
    }
  }
}

static FinishFunction line_columns_of(LineForm form) {
  switch (form) {
    case kClampedLine:
      return line_columns<kClampedLine>;
    case kInnerLine:
      return line_columns<kInnerLine>;
    case kFmaLine:
      return line_columns<kFmaLine>;
    case kLineOfY:
      return line_columns<kLineOfY>;
    default:
      return line_columns<kUnitOfY>;
  }
}

// Sums of bytes, which lie in the order of channels, in that of lanes.
static inline __attribute__((always_inline)) void load_lanes(const uint8_t* from, bool ints, __m512i (&d)[4]) {
  if (ints) {
    For<0, 4>::each([&](auto v) __attribute__((always_inline)) { d[v] = _mm512_load_si512(from + 64 * v); });
    return;
  }
  const __m512i x = _mm512_load_si512(from), zero = _mm512_setzero_si512();
  const __m512i low = _mm512_unpacklo_epi8(zero, x), high = _mm512_unpackhi_epi8(zero, x);
  d[0] = _mm512_srai_epi32(_mm512_unpacklo_epi16(zero, low), 24);
  d[1] = _mm512_srai_epi32(_mm512_unpackhi_epi16(zero, low), 24);
  d[2] = _mm512_srai_epi32(_mm512_unpacklo_epi16(zero, high), 24);
  d[3] = _mm512_srai_epi32(_mm512_unpackhi_epi16(zero, high), 24);
}

// y, where nothing else leaves.
template <bool ints>
static void float_columns(const Column& c, const Sums& t) {
  __m512 numbers[4][kYDwords];
  For<0, 4>::each([&](auto v) __attribute__((always_inline)) {
    For<0, kYDwords>::each(
        [&](auto k) __attribute__((always_inline)) { numbers[v][k] = _mm512_castsi512_ps(t.numbers[4 * k + v]); });
  });
  const __m512 least = _mm512_set1_ps(t.least);
  const uint8_t* from = t.from;
  uint8_t* to = t.to;
  for (int32_t y = 0; y < c.rows; ++y, to += t.row) {
    int64_t at = c.at;
    for (int32_t x = 0; x < c.columns; ++x, at += c.column, from += ints ? 256 : 64) {
      __m512i v[4];
      load_lanes(from, ints, v);
      For<0, 4>::each([&](auto i) __attribute__((always_inline)) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(v[i]), numbers[i][0]);
        __m512 y16 = _mm512_add_ps(scaled, numbers[i][1]);
        if (t.norms) y16 = _mm512_fmadd_ps(y16, numbers[i][2], numbers[i][3]);
        v[i] = _mm512_castps_si512(_mm512_max_ps(least, y16));
      });
      turn_quarters(v);
      store_lanes(to + 4 * at, v, c.bytes);
    }
  }
}

// The numbers of channel c, for dwords `first` .. of all numbers.
static void write_line(const FusedSpec* s, const FusedLineRule& line, const Numbers& n, int first, int64_t c,
                       uint8_t* to) {
  const FusedEpilogue& e = s->epilogue;
  const auto put = [&](int k, float number) {
    __builtin_memcpy(dword_of(n, s->in_channels, to, first + k) + 4 * c, &number, 4);
  };
  if (e.codes_from_int) {
    const bool found = line.kind == kFusedFma;
    put(0, found ? line.multiply[c] : e.line_multiply[c]);
    put(1, found ? line.offset[c] : e.line_offset[c]);
    return;
  }
  put(0, e.multiply[c]);
  put(1, e.offset[c]);
  put(2, e.norm_multiply != nullptr ? e.norm_multiply[c] : 1.0f);
  put(3, e.norm_offset != nullptr ? e.norm_offset[c] : 0.0f);
  if (!e.wants_codes) return;
  put(4, e.line_multiply[c]);
  put(5, e.line_offset[c]);
}
