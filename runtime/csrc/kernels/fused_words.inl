// Codes from sums in 16-bit lanes, AVX-512, while the sums are still there. Included after fused_ints.inl.
//
// With D = code_step * x + r, where x is a whole number of 16 bits and r = 0 or 1 is the same for all channels of a
// pixel,
//   D >= T  <=>  x >= ceil((T - r) / code_step)
// so thresholds lie in two rows, one for each r, in lanes of x: a compare decides 32 channels, and the planes of up to
// 4 bits are its masks, never moved to another register. A code of A bits takes A compares, each with the threshold in
// the middle of those that are left.

// [classes of borders][r][n][padded]; those beyond 16 bits are out of reach at either end.
struct WordThresholds {
  const int16_t* at;
  int64_t padded;
  int32_t bits;
};

constexpr int kMostWordBits = 4;
constexpr int64_t kMostWordSum = 65532;  // of |D|: then |x| <= 32766, and 32767 is out of reach

static inline int64_t word_threshold_bytes(const FusedSpec* spec, int64_t padded) {
  const FusedEpilogue* e = &spec->epilogue;
  if (!e->wants_codes || !e->codes_from_int || e->bits > kMostWordBits) return 0;
  const int64_t classes = e->border == nullptr ? 1 : static_cast<int64_t>(e->row_classes) * e->column_classes;
  return classes * 2 * ((1 << e->bits) - 1) * padded * 2;
}

// Rounded up.
static inline int64_t halved(int64_t x) { return (x + 1) >> 1; }

static inline void prepare_word_thresholds(const FusedSpec* spec, int64_t padded, int16_t* to) {
  const FusedEpilogue* e = &spec->epilogue;
  const int n = (1 << e->bits) - 1;
  const int64_t classes = e->border == nullptr ? 1 : static_cast<int64_t>(e->row_classes) * e->column_classes;
  for (int64_t k = 0; k < classes; ++k) {
    for (int r = 0; r < 2; ++r) {
      for (int64_t i = 0; i < n * padded; ++i, ++to) {
        const int64_t border = e->border == nullptr ? 0 : e->border[k * padded + i % padded];
        const int64_t d = static_cast<const int32_t*>(e->thresholds)[i] - border - r;
        const int64_t x = spec->code_step == 2 ? halved(d) : d;
        *to = static_cast<int16_t>(x > 32767 ? 32767 : x < -32768 ? -32768 : x);
      }
    }
  }
}

// The planes of 32 codes, from the highest bit down: half the thresholds are left after each.
template <int bits>
static inline void word_planes(__m512i x, const int16_t* t, int64_t padded, __mmask32 (&k)[bits]) {
  auto reached = [&](__m512i threshold) __attribute__((always_inline)) {
    return _mm512_cmpge_epi16_mask(x, threshold);
  };
  auto at = [&](int j) __attribute__((always_inline)) { return _mm512_loadu_si512(t + j * padded); };
  auto either = [&](__mmask32 bit, __m512i low, __m512i high) __attribute__((always_inline)) {
    return _mm512_mask_blend_epi16(bit, low, high);
  };
  if constexpr (bits == 1) {
    k[0] = reached(at(0));
  } else if constexpr (bits == 2) {
    // Thresholds rise: who reaches the third reaches the first. A blend would wait for the second.
    k[1] = reached(at(1));
    k[0] = _kxor_mask32(_kxor_mask32(reached(at(0)), k[1]), reached(at(2)));
  } else if constexpr (bits == 3) {
    k[2] = reached(at(3));
    k[1] = reached(either(k[2], at(1), at(5)));
    k[0] = reached(either(k[1], either(k[2], at(0), at(4)), either(k[2], at(2), at(6))));
  } else {
    k[3] = reached(at(7));
    k[2] = reached(either(k[3], at(3), at(11)));
    k[1] = reached(either(k[2], either(k[3], at(1), at(9)), either(k[3], at(5), at(13))));
    k[0] = reached(either(k[1], either(k[2], either(k[3], at(0), at(8)), either(k[3], at(4), at(12))),
                          either(k[2], either(k[3], at(2), at(10)), either(k[3], at(6), at(14)))));
  }
}

// 64 codes of a pixel, x[0] channels 0 .. 31 and x[1] channels 32 .. 63. `to`: where the first one goes; t: the row of
// thresholds of the pixel's border and r, from the first channel on.
template <int bits, bool planes, bool tail>
static inline void store_word_codes(uint8_t* to, int64_t plane_bytes, int channels, const __m512i (&x)[2],
                                    const int16_t* t, int64_t padded) {
  __mmask32 low[bits], high[bits];
  word_planes<bits>(x[0], t, padded, low);
  word_planes<bits>(x[1], t + 32, padded, high);
  if constexpr (planes) {
    For<0, bits>::each([&](auto i) __attribute__((always_inline)) {
      store_fused_plane<tail>(to + i * plane_bytes, _mm512_kunpackd(high[i], low[i]), channels);
    });
  } else {
    __m512i codes = _mm512_maskz_set1_epi8(_mm512_kunpackd(high[0], low[0]), 1);
    For<1, bits>::each([&](auto i) __attribute__((always_inline)) {
      codes = _mm512_mask_add_epi8(codes, _mm512_kunpackd(high[i], low[i]), codes, _mm512_set1_epi8(1 << i));
    });
    store_fused_bytes<tail>(to, codes, channels);
  }
}
