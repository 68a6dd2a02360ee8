// Codes of D of 1 and 2 bits by thresholds, AVX-512: by bisection, so that what comparisons give are the bit planes.
// Included after fused_lines.inl.
//
//   high = D >= t1     low = D >= (high ? t2 : t0)       two comparisons of 16 channels instead of three, no packs

template <int V>
static inline __attribute__((always_inline)) __mmask64 joined_masks(const __mmask16* k) {
  if (V <= 2) return _mm512_kunpackw(V == 2 ? k[V - 1] : 0, k[0]);
  return _mm512_kunpackd(_mm512_kunpackw(V == 4 ? k[V - 1] : 0, k[V > 2 ? 2 : 0]), _mm512_kunpackw(k[V > 1], k[0]));
}

// V vectors of 16 channels.
template <int V, int bits, class Sums>
static __attribute__((noinline)) void bit_codes(const FusedPixels* t, int padded, const Sums sums) {
  constexpr bool kTail = V != 4;
  const int32_t* const thresholds = static_cast<const int32_t*>(t->epilogue->thresholds) + t->first_channel;
  const bool planes = t->epilogue->planes != 0;
  for (int p = 0; p < t->pixels; ++p) {
    __mmask16 high[V], low[V];
    For<0, V>::each([&](auto h) __attribute__((always_inline)) {
      const int32_t* const at = thresholds + 16 * h;
      const __m512i x = sums.load(p, h);
      if constexpr (bits == 1) {
        low[h] = high[h] = _mm512_cmpge_epi32_mask(x, _mm512_load_si512(at));
      } else {
        high[h] = _mm512_cmpge_epi32_mask(x, _mm512_load_si512(at + padded));
        const __m512i next = _mm512_mask_load_epi32(_mm512_load_si512(at), high[h], at + 2 * padded);
        low[h] = _mm512_cmpge_epi32_mask(x, next);
      }
    });
    const __mmask64 plane0 = joined_masks<V>(low), plane1 = joined_masks<V>(high);
    if (planes) {
      uint8_t* const to = t->codes[p] + t->first_channel / 8;
      store_fused_plane<kTail>(to, plane0, t->channels);
      if (bits == 2) store_fused_plane<kTail>(to + t->codes_plane, plane1, t->channels);
    } else {
      __m512i codes = _mm512_maskz_set1_epi8(plane0, 1);
      if (bits == 2) codes = _mm512_mask_add_epi8(codes, plane1, codes, _mm512_set1_epi8(2));
      store_fused_bytes<kTail>(t->codes[p] + t->first_channel, codes, t->channels);
    }
  }
}

template <int bits, class Sums>
static void bit_codes_of(const FusedPixels* t, int padded, const Sums sums) {
  if (t->channels <= 16) return bit_codes<1, bits>(t, padded, sums);
  if (t->channels <= 32) return bit_codes<2, bits>(t, padded, sums);
  if (t->channels <= 48) return bit_codes<3, bits>(t, padded, sums);
  if (t->channels < 64) return finish_int_codes<kThresholdCodes>(t, padded, sums);
  bit_codes<4, bits>(t, padded, sums);
}

// As finish_with_line(), which does what there is besides such codes.
template <class Sums>
static void finish_with_bits(const FusedPixels* t, int padded, const FusedLineRule* line, const Sums sums) {
  const FusedEpilogue* const e = t->epilogue;
  const bool counted = e->wants_codes && e->codes_from_int && e->bits <= 2 && e->thresholds != nullptr;
  if (!counted || e->wants_float || line->kind != kNoLine) return finish_with_line(t, padded, line, sums);
  e->bits == 1 ? bit_codes_of<1>(t, padded, sums) : bit_codes_of<2>(t, padded, sums);
}
