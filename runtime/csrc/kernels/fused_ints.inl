// From D in int32 to floats and codes, AVX-512: 64 channels of some pixels at a time, in one pass over what the sums
// need (fused.h, FusedEpilogue). Included inside a namespace of the kernel file's own, after fused_loops.inl.
//
// The sums come from an object with
//   __m512i load(int p, int h) const    D, or float(D) as __m512, of channels 16 h .. 16 h + 15 of the group, h = 0 ..
//   3, of pixel p, with its
//                                       border; what lies behind the last channel is never kept
// so that they may be narrower, elsewhere, or not yet corrected. 4 x 16 codes become 64 bytes by three packs, which
// saturate: two of int32, one of int16. Packs work within 16 bytes, so one permutation of dwords restores the order.

struct FusedPixels {
  const FusedEpilogue* epilogue;
  int32_t pixels;
  int32_t first_channel, channels;  // a multiple of 64; 1 .. 64
  // [pixels], each of channel 0; null where nothing of the kind is read or written
  uint8_t* const* codes;
  float* const* out;
  const float* const* residual;
  int64_t codes_plane;
};

enum FusedCodes {
  kNoCodes,
  kLineCodes,       // x * line_multiply + line_offset
  kThresholdCodes,  // counted
};

static inline __mmask64 first_lanes(int lanes) { return lanes >= 64 ? ~__mmask64{0} : (__mmask64{1} << lanes) - 1; }

// 8 bytes of a plane begin at any byte. Written so, a mask goes to memory without passing through another register.
typedef __mmask64 __attribute__((aligned(1), may_alias)) MaskAnywhere;

// Up to 8 bytes of a plane. Stores under a mask of bytes are slow on some CPUs: channels come in sixteens, mostly.
template <bool tail>
static inline __attribute__((always_inline)) void store_fused_plane(uint8_t* to, __mmask64 bits, int channels) {
  if (!tail) {
    *reinterpret_cast<MaskAnywhere*>(to) = bits;
    return;
  }
  uint64_t word = _cvtmask64_u64(bits) & first_lanes(channels);
  if (channels & 32) {
    __builtin_memcpy(to, &word, 4);
    to += 4, word >>= 32;
  }
  if (channels & 16) {
    __builtin_memcpy(to, &word, 2);
    to += 2, word >>= 16;
  }
  for (int c = 0; c < (channels & 15); c += 8) *to++ = static_cast<uint8_t>(word >> c);
}

template <bool tail>
static inline __attribute__((always_inline)) void store_fused_bytes(uint8_t* to, __m512i codes, int channels) {
  if (!tail) {
    _mm512_storeu_si512(to, codes);
    return;
  }
  __m256i rest = _mm512_castsi512_si256(codes);
  if (channels & 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rest);
    to += 32, rest = _mm512_extracti64x4_epi64(codes, 1);
  }
  __m128i last = _mm256_castsi256_si128(rest);
  if (channels & 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), last);
    to += 16, last = _mm256_extracti128_si256(rest, 1);
  }
  if (channels & 15) _mm_mask_storeu_epi8(to, static_cast<__mmask16>(first_lanes(channels & 15)), last);
}

// 64 codes of pixel p, in order.
template <bool tail>
static inline __attribute__((always_inline)) void store_fused_codes(const FusedPixels* t, int p, __m512i codes) {
  if (!t->epilogue->planes) return store_fused_bytes<tail>(t->codes[p] + t->first_channel, codes, t->channels);
  uint8_t* to = t->codes[p] + t->first_channel / 8;
  const int bits = t->epilogue->bits;
  __m512i bit = _mm512_set1_epi8(1);
  for (int i = 0; i < bits; ++i, to += t->codes_plane, bit = _mm512_add_epi8(bit, bit)) {
    store_fused_plane<tail>(to, _mm512_test_epi8_mask(codes, bit), t->channels);
  }
}

static inline __attribute__((always_inline)) __m512i bytes_in_order(const __m512i (&codes)[4]) {
  const __m512i bytes =
      _mm512_packus_epi16(_mm512_packs_epi32(codes[0], codes[1]), _mm512_packs_epi32(codes[2], codes[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, bytes);
}

// round_half_even(min(v, n)) as int32, which the packs clamp at 0. NaN is the second operand, which min returns, and
// becomes the least int32, as what is below all of them does.
static inline __m512i rounded_code(__m512 v, __m512 n) { return _mm512_cvtps_epi32(_mm512_min_ps(n, v)); }

// Thresholds of floats are these in the bits of integers.
static inline __mmask16 reaches(__m512 x, __m512i threshold) {
  return _mm512_cmp_ps_mask(x, _mm512_castsi512_ps(threshold), _CMP_GE_OQ);
}
static inline __mmask16 reaches(__m512i x, __m512i threshold) { return _mm512_cmpge_epi32_mask(x, threshold); }

// Rows of thresholds of 16 channels. The one that tells bit `bits - 1 - depth` of a code, whose higher bits are those
// of `path` and then k[known] .. k[depth - 1].
template <int bits, int depth, int known, int path>
static inline __attribute__((always_inline)) __m512i threshold_of_bit(const int32_t* rows, int padded,
                                                                      const __mmask16* k) {
  constexpr int kRow = (2 * path + 1) * (1 << (bits - 1 - depth)) - 1;
  if constexpr (known == depth) {
    return _mm512_load_si512(rows + kRow * padded);
  } else {
    return _mm512_mask_mov_epi32(threshold_of_bit<bits, depth, known + 1, 2 * path>(rows, padded, k), k[known],
                                 threshold_of_bit<bits, depth, known + 1, 2 * path + 1>(rows, padded, k));
  }
}

// How many of the thresholds x reaches: a comparison for each bit.
template <int bits, class Vector>
static inline __attribute__((always_inline)) __m512i bisect_thresholds(const int32_t* rows, int padded, Vector x) {
  __mmask16 k[bits];
  For<0, bits>::each([&](auto depth) __attribute__((always_inline)) {
    k[depth] = reaches(x, threshold_of_bit<bits, depth.value, 0, 0>(rows, padded, k));
  });
  __m512i code = _mm512_maskz_set1_epi32(k[0], 1 << (bits - 1));
  For<1, bits>::each([&](auto i) __attribute__((always_inline)) {
    code = _mm512_mask_add_epi32(code, k[i], code, _mm512_set1_epi32(1 << (bits - 1 - i)));
  });
  return code;
}

// How many of the thresholds of 16 channels from c on x reaches.
template <class Vector>
static inline __attribute__((always_inline)) __m512i count_thresholds(const FusedEpilogue* e, int padded, int c,
                                                                      Vector x) {
  const int32_t* threshold = static_cast<const int32_t*>(e->thresholds) + c;
  if (e->bits == 4) return bisect_thresholds<4>(threshold, padded, x);
  if (e->bits == 3) return bisect_thresholds<3>(threshold, padded, x);
  const __m512i one = _mm512_set1_epi32(1);
  __m512i code = _mm512_setzero_si512();
  for (int j = (1 << e->bits) - 1; j > 0; --j, threshold += padded) {
    code = _mm512_mask_add_epi32(code, reaches(x, _mm512_load_si512(threshold)), code, one);
  }
  return code;
}

static inline __m512 as_float(__m512 x) { return x; }
static inline __m512 as_float(__m512i x) { return _mm512_cvtepi32_ps(x); }

// Codes of x, D or y, of 16 channels from c on.
template <FusedCodes kind, class Vector>
static inline __attribute__((always_inline)) __m512i fused_code(const FusedEpilogue* e, int padded, int c, __m512 n,
                                                                Vector x) {
  if (kind == kThresholdCodes) return count_thresholds(e, padded, c, x);
  const __m512 scaled = _mm512_mul_ps(as_float(x), _mm512_load_ps(e->line_multiply + c));
  return rounded_code(_mm512_add_ps(scaled, _mm512_load_ps(e->line_offset + c)), n);
}

// y of 16 channels, from c of the group on. Holds what stores of floats might change, as far as the compiler knows.
struct FusedScale {
  const float *multiply, *offset, *norm_multiply, *norm_offset;
  __m512 least;

  FusedScale(const FusedEpilogue* e, int first)
      : multiply(e->multiply + first),
        offset(e->offset + first),
        norm_multiply(e->norm_multiply != nullptr ? e->norm_multiply + first : nullptr),
        norm_offset(e->norm_offset != nullptr ? e->norm_offset + first : nullptr),
        least(_mm512_set1_ps(e->relu ? 0.0f : -__builtin_inff())) {}
  inline __m512 scaled(__m512 d, int c) const {
    const __m512 y = _mm512_add_ps(_mm512_mul_ps(d, _mm512_load_ps(multiply + c)), _mm512_load_ps(offset + c));
    if (norm_multiply == nullptr) return y;
    return _mm512_fmadd_ps(y, _mm512_load_ps(norm_multiply + c), _mm512_load_ps(norm_offset + c));
  }
  inline __m512 rectified(__m512 y) const { return _mm512_max_ps(least, y); }  // y where it is NaN
};

// y, stored where it is wanted, and its codes. `padded`: channels of one row of thresholds.
template <bool residual, FusedCodes kind, bool tail, class Sums>
static __attribute__((noinline)) void fused_floats(const FusedPixels* t, int padded, const Sums sums) {
  const FusedEpilogue* const e = t->epilogue;
  const int first = t->first_channel;
  const FusedScale scale(e, first);
  const __m512 n = _mm512_set1_ps(static_cast<float>((1 << e->bits) - 1));
  const bool out = e->wants_float != 0;
  const __mmask64 lanes = first_lanes(t->channels);
  for (int p = 0; p < t->pixels; ++p) {
    const float* from = residual ? t->residual[p] + first : nullptr;
    float* to = out ? t->out[p] + first : nullptr;
    __m512i codes[4];
    For<0, 4>::each([&](auto h) __attribute__((always_inline)) {
      codes[h] = _mm512_setzero_si512();
      if (tail && 16 * h >= t->channels) return;
      const __mmask16 mask = static_cast<__mmask16>(lanes >> (16 * h));
      __m512 y = scale.scaled(as_float(sums.load(p, h)), 16 * h);
      if (residual) {
        y = _mm512_add_ps(y, tail ? _mm512_maskz_loadu_ps(mask, from + 16 * h) : _mm512_loadu_ps(from + 16 * h));
      }
      y = scale.rectified(y);
      if (out && tail) _mm512_mask_storeu_ps(to + 16 * h, mask, y);
      if (out && !tail) _mm512_storeu_ps(to + 16 * h, y);
      if (kind != kNoCodes) codes[h] = fused_code<kind>(e, padded, first + 16 * h, n, y);
    });
    if (kind != kNoCodes) store_fused_codes<tail>(t, p, bytes_in_order(codes));
  }
}

template <FusedCodes kind, bool tail, class Sums>
static __attribute__((noinline)) void fused_int_codes(const FusedPixels* t, int padded, const Sums sums) {
  const FusedEpilogue* const e = t->epilogue;
  const __m512 n = _mm512_set1_ps(static_cast<float>((1 << e->bits) - 1));
  for (int p = 0; p < t->pixels; ++p) {
    __m512i codes[4];
    For<0, 4>::each([&](auto h) __attribute__((always_inline)) {
      codes[h] = _mm512_setzero_si512();
      if (tail && 16 * h >= t->channels) return;
      codes[h] = fused_code<kind>(e, padded, t->first_channel + 16 * h, n, sums.load(p, h));
    });
    store_fused_codes<tail>(t, p, bytes_in_order(codes));
  }
}

template <bool residual, bool tail, class Sums>
static void finish_floats(const FusedPixels* t, int padded, const Sums sums) {
  const FusedEpilogue* const e = t->epilogue;
  if (!e->wants_codes || e->codes_from_int) return fused_floats<residual, kNoCodes, tail>(t, padded, sums);
  if (e->rule == kFusedThresholds) return fused_floats<residual, kThresholdCodes, tail>(t, padded, sums);
  fused_floats<residual, kLineCodes, tail>(t, padded, sums);
}

// What the epilogue asks for but the codes of D: floats, and their codes.
template <class Sums>
static void finish_y(const FusedPixels* t, int padded, const Sums sums) {
  const FusedEpilogue* const e = t->epilogue;
  if (!e->wants_float && !(e->wants_codes && !e->codes_from_int)) return;
  if (t->channels == 64) {
    if (e->has_residual) return finish_floats<true, false>(t, padded, sums);
    return finish_floats<false, false>(t, padded, sums);
  }
  if (e->has_residual) return finish_floats<true, true>(t, padded, sums);
  finish_floats<false, true>(t, padded, sums);
}

// The codes of D, before finish_y() where both are wanted and D lies where floats go. Where the sums give D as floats,
// only the line is meant, as thresholds of D are int32.
template <FusedCodes kind, class Sums>
static void finish_int_codes(const FusedPixels* t, int padded, const Sums sums) {
  const FusedEpilogue* const e = t->epilogue;
  if (!e->wants_codes || !e->codes_from_int) return;
  if (t->channels == 64) return fused_int_codes<kind, false>(t, padded, sums);
  fused_int_codes<kind, true>(t, padded, sums);
}
