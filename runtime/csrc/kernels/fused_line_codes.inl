// Codes by lines, AVX-512. Included after fused_lines.inl.
//
// 64 codes at a time: of 64 channels of a pixel, or where there are up to 32 or 16, of 2 or 4 pixels, so that packs and
// what surrounds them are shared.

// Numbers of V vectors of 16 channels: of D the line, of y both its stages.
template <FusedLineKind kind, int V>
struct LineNumbers {
  __m512 multiply[V], offset[V], norm_multiply[V], norm_offset[V], n;

  LineNumbers(const FusedEpilogue* e, const FusedLineRule* line, int first)
      : n(_mm512_set1_ps(static_cast<float>((1 << e->bits) - 1))) {
    const float* const m = kind == kUnitLine ? e->multiply : line->multiply;
    const float* const b = kind == kUnitLine ? e->offset : line->offset;
    For<0, V>::each([&](auto v) __attribute__((always_inline)) {
      multiply[v] = _mm512_load_ps(m + first + 16 * v);
      offset[v] = _mm512_load_ps(b + first + 16 * v);
      if (kind != kUnitLine) return;
      norm_multiply[v] = _mm512_set1_ps(1.0f);
      norm_offset[v] = _mm512_setzero_ps();
      if (e->norm_multiply == nullptr) return;
      norm_multiply[v] = _mm512_load_ps(e->norm_multiply + first + 16 * v);
      norm_offset[v] = _mm512_load_ps(e->norm_offset + first + 16 * v);
    });
  }

  // Not yet clamped; y * 1 + 0 is y but for the sign of a zero, which rounds to 0.
  inline __attribute__((always_inline)) __m512i code(__m512i d, int v) const {
    const __m512 x = _mm512_cvtepi32_ps(d);
    if (kind == kFusedFma) return _mm512_cvtps_epi32(_mm512_fmadd_ps(x, multiply[v], offset[v]));
    const __m512 y = _mm512_add_ps(_mm512_mul_ps(x, multiply[v]), offset[v]);
    if (kind == kPlainLine) return _mm512_cvtps_epi32(y);
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_fmadd_ps(y, norm_multiply[v], norm_offset[v]), n));
  }
};

// Part `i` of P parts of 64 codes goes to pixel p.
template <int P, int i>
static inline __attribute__((always_inline)) void store_codes_of_part(const FusedPixels* t, int p, __m512i codes) {
  if (t->epilogue->planes) {
    uint8_t* to = t->codes[p] + t->first_channel / 8;
    __m512i bit = _mm512_set1_epi8(1);
    for (int k = t->epilogue->bits; k > 0; --k, to += t->codes_plane, bit = _mm512_add_epi8(bit, bit)) {
      store_fused_plane<true>(to, _mm512_test_epi8_mask(codes, bit) >> (64 / P * i), t->channels);
    }
    return;
  }
  const __m512i part = P == 2 ? _mm512_castsi256_si512(_mm512_extracti64x4_epi64(codes, i % 2))
                              : _mm512_castsi128_si512(_mm512_extracti32x4_epi32(codes, i));
  store_fused_bytes<true>(t->codes[p] + t->first_channel, part, t->channels);
}

// The codes of P pixels from p on.
template <int P, bool tail>
static inline __attribute__((always_inline)) void store_line_codes(const FusedPixels* t, int p, __m512i codes) {
  if constexpr (P == 1) {
    store_fused_codes<tail>(t, p, codes);
  } else {
    const bool whole = p + P <= t->pixels && t->channels == 64 / P && !t->epilogue->planes;
    if (whole && t->codes[p + P - 1] - t->codes[p] == 64 - 64 / P) {  // they adjoin
      return _mm512_storeu_si512(t->codes[p] + t->first_channel, codes);
    }
    For<0, P>::each([&](auto i) __attribute__((always_inline)) {
      if (p + i < t->pixels) store_codes_of_part<P, i.value>(t, p + i, codes);
    });
  }
}

// V vectors of channels.
template <FusedLineKind kind, int V, bool tail, class Sums>
static __attribute__((noinline)) void fused_line_codes(const FusedPixels* t, const FusedLineRule* line,
                                                       const Sums sums) {
  constexpr int P = V == 1 ? 4 : V == 2 ? 2 : 1;
  const __m512i most = _mm512_set1_epi8(static_cast<char>((1 << t->epilogue->bits) - 1));
  const LineNumbers<kind, V> numbers(t->epilogue, line, t->first_channel);
  for (int p = 0; p < t->pixels; p += P) {
    __m512i codes[4] = {};
    For<0, P>::each([&](auto i) __attribute__((always_inline)) {
      const int at = p + i < t->pixels ? p + i : p;
      For<0, V>::each([&](auto v)
                          __attribute__((always_inline)) { codes[i * V + v] = numbers.code(sums.load(at, v), v); });
    });
    store_line_codes<P, tail>(t, p, _mm512_min_epu8(bytes_in_order(codes), most));
  }
}

template <FusedLineKind kind, class Sums>
static void line_codes_of(const FusedPixels* t, const FusedLineRule* line, const Sums sums) {
  if (t->channels <= 16) return fused_line_codes<kind, 1, true>(t, line, sums);
  if (t->channels <= 32) return fused_line_codes<kind, 2, true>(t, line, sums);
  if (t->channels <= 48) return fused_line_codes<kind, 3, true>(t, line, sums);
  if (t->channels < 64) return fused_line_codes<kind, 4, true>(t, line, sums);
  fused_line_codes<kind, 4, false>(t, line, sums);
}

// Everything that the epilogue asks for.
template <class Sums>
static void finish_with_line(const FusedPixels* t, int padded, const FusedLineRule* line, const Sums sums) {
  if (line->kind == kUnitLine) return line_codes_of<kUnitLine>(t, line, sums);
  if (line->kind == kFusedFma) {
    line_codes_of<kFusedFma>(t, line, sums);
  } else if (line->kind == kPlainLine) {
    line_codes_of<kPlainLine>(t, line, sums);
  } else if (t->epilogue->rule == kFusedLine) {
    finish_int_codes<kLineCodes>(t, padded, sums);
  } else {
    finish_int_codes<kThresholdCodes>(t, padded, sums);
  }
  finish_y(t, padded, sums);
}
