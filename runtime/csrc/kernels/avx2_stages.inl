// What follows the dot products with AVX2 (corrections, floats, codes), and rows of codes. Text of avx2.cpp.

// D of channels 8v .. 8v + 7 of one pixel.
static inline __m256i corrected(const Correction* correction, const int32_t* row, int pixel, int v) {
  __m256i d = _mm256_sll_epi32(load(row + v * 8), _mm_cvtsi32_si128(correction->shift));
  if (correction->add) d = _mm256_add_epi32(d, _mm256_set1_epi32(correction->add[pixel]));
  if (correction->border) d = _mm256_add_epi32(d, load(correction->border[pixel] + v * 8));
  return d;
}

static void finish_int(const IntStage* t, int32_t* tile) {
  for (int p = 0; p < t->pixels; ++p) {
    int32_t* row = tile + p * kBlock;
    for (int v = 0; v < kVectors; ++v) store(row + v * 8, corrected(&t->correction, row, p, v));
  }
}

// The lanes below `count`, for masked loads.
static inline __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The float stage of eight channels of all pixels, with what belongs to the channels in registers.
template <bool from_int, bool norm>
static inline void scale_channels(const FloatStage* t, int v, int32_t* tile) {
  const Correction correction = t->correction;
  const __m256 multiply = _mm256_loadu_ps(t->multiply + v * 8), offset = _mm256_loadu_ps(t->offset + v * 8);
  const __m256 norm_multiply = norm ? _mm256_loadu_ps(t->norm_multiply + v * 8) : _mm256_setzero_ps();
  const __m256 norm_offset = norm ? _mm256_loadu_ps(t->norm_offset + v * 8) : _mm256_setzero_ps();
  const __m256 least = _mm256_set1_ps(t->relu ? 0.0f : -__builtin_inff());
  const __m256i lanes = first_lanes(t->channels - v * 8);
  const float* const* residual = t->residual;
  float* const* out = t->out;
  for (int p = 0; p < t->pixels; ++p) {
    int32_t* row = tile + p * kBlock;
    const __m256 x =
        from_int ? _mm256_cvtepi32_ps(corrected(&correction, row, p, v)) : _mm256_castsi256_ps(load(row + v * 8));
    __m256 y = _mm256_add_ps(_mm256_mul_ps(x, multiply), offset);
    if (norm) y = _mm256_fmadd_ps(y, norm_multiply, norm_offset);
    if (residual) y = _mm256_add_ps(y, _mm256_maskload_ps(residual[p] + v * 8, lanes));
    y = _mm256_max_ps(least, y);  // y where it is NaN
    store(row + v * 8, _mm256_castps_si256(y));
    if (out) _mm256_maskstore_ps(out[p] + v * 8, lanes, y);
  }
}

template <bool from_int>
static inline void to_float(const FloatStage* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  for (int v = 0; v < kVectors; ++v) {
    t->norm_multiply ? scale_channels<from_int, true>(t, v, tile) : scale_channels<from_int, false>(t, v, tile);
  }
}

static void int_to_float(const FloatStage* t, void* tile) { to_float<true>(t, tile); }
static void float_to_float(const FloatStage* t, void* tile) { to_float<false>(t, tile); }

// 32 codes, channel k in byte k, from vectors of eight 32-bit codes.
static inline __m256i pack_codes(const __m256i* code) {
  const __m256i words[2] = {_mm256_packs_epi32(code[0], code[1]), _mm256_packs_epi32(code[2], code[3])};
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words[0], words[1]),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline void write_bytes(uint8_t* to, uint64_t value, int bytes) {
  for (int k = 0; k < bytes; ++k) to[k] = static_cast<uint8_t>(value >> 8 * k);
}

// Bit i of 32 codes.
static inline uint32_t plane_of(__m256i codes, int i) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_sll_epi16(codes, _mm_cvtsi32_si128(7 - i))));
}

static inline void put_codes(const CodeStage* t, int pixel, __m256i codes) {
  uint8_t* out = t->out[pixel];
  if (t->channels == kBlock) {
    if (!t->planes) return store(out, codes);
    for (int i = 0; i < t->bits; ++i) {
      const uint32_t plane = plane_of(codes, i);
      __builtin_memcpy(out + i * t->out_plane_bytes, &plane, 4);
    }
  } else if (t->planes) {
    for (int i = 0; i < t->bits; ++i) {
      write_bytes(out + i * t->out_plane_bytes, plane_of(codes, i) & ((1u << t->channels) - 1), (t->channels + 7) / 8);
    }
  } else {
    uint8_t bytes[kBlock];
    store(bytes, codes);
    __builtin_memcpy(out, bytes, static_cast<unsigned>(t->channels));
  }
}

// v = clamp(x * multiply + offset, 0, levels), 0 where x is NaN.
template <bool from_int>
static inline __m256 line(const CodeStage* t, __m256i x, int v, int levels) {
  const __m256 f = from_int ? _mm256_cvtepi32_ps(x) : _mm256_castsi256_ps(x);
  __m256 y = _mm256_add_ps(_mm256_mul_ps(f, _mm256_loadu_ps(t->multiply + v * 8)), _mm256_loadu_ps(t->offset + v * 8));
  y = _mm256_max_ps(y, _mm256_setzero_ps());  // the second operand where y is NaN
  return _mm256_min_ps(y, _mm256_set1_ps(static_cast<float>(levels)));
}

template <bool from_int>
static inline void change_signs(const CodeStage* t, __m256i* x) {
  for (int v = 0; v < kVectors; ++v) {
    const __m256i negate = load(t->negate + v * 8);
    x[v] = from_int ? _mm256_sub_epi32(_mm256_xor_si256(x[v], negate), negate)
                    : _mm256_xor_si256(x[v], _mm256_slli_epi32(negate, 31));
  }
}

// The codes of 32 x: of `levels` thresholds as many as are not above D, or as many as y is not below.
template <bool from_int>
static inline void threshold_codes(const CodeStage* t, const __m256i* x, int levels, __m256i* code) {
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) code[v] = pin(from_int ? _mm256_set1_epi32(levels) : _mm256_setzero_si256());
  const int32_t* threshold = static_cast<const int32_t*>(t->thresholds);
  for (int j = 0; j < levels; ++j, threshold += kBlock) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __m256i bound = load(threshold + v * 8);
      if (from_int) {
        code[v] = _mm256_add_epi32(code[v], _mm256_cmpgt_epi32(bound, x[v]));
      } else {
        const __m256 reached = _mm256_cmp_ps(_mm256_castsi256_ps(x[v]), _mm256_castsi256_ps(bound), _CMP_GE_OQ);
        code[v] = _mm256_sub_epi32(code[v], _mm256_castps_si256(reached));
      }
    }
  }
}

// The line decides, but for the few channels where it is not near enough to an integer.
template <bool from_int>
static inline void guided_codes(const CodeStage* t, const __m256i* x, int levels, __m256i* code) {
  uint32_t unsure = 0;
  for (int v = 0; v < kVectors; ++v) {
    const __m256 y = line<from_int>(t, x[v], v, levels);
    code[v] = _mm256_cvtps_epi32(y);
    const __m256 distance = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(y, _mm256_cvtepi32_ps(code[v])));
    const __m256 far = _mm256_cmp_ps(distance, _mm256_set1_ps(t->margin), _CMP_GE_OQ);
    unsure |= static_cast<uint32_t>(_mm256_movemask_ps(far)) << v * 8;
  }
  if (t->channels < kBlock) unsure &= (1u << t->channels) - 1;
  if (unsure == 0) return;
  alignas(32) int32_t codes[kBlock];
  alignas(32) int32_t values[kBlock];
  for (int v = 0; v < kVectors; ++v) {
    store(codes + v * 8, code[v]);
    store(values + v * 8, x[v]);
  }
  for (; unsure != 0; unsure &= unsure - 1) {
    const int c = __builtin_ctz(unsure);
    float value;
    __builtin_memcpy(&value, values + c, 4);
    codes[c] = from_int ? count_reached(static_cast<const int32_t*>(t->thresholds), c, values[c], levels)
                        : count_reached(static_cast<const float*>(t->thresholds), c, value, levels);
  }
  for (int v = 0; v < kVectors; ++v) code[v] = load(codes + v * 8);
}

template <bool from_int, CodeRuleKind rule>
static inline void all_codes(const CodeStage* t, const void* tile) {
  const int levels = (1 << t->bits) - 1;
  for (int p = 0; p < t->pixels; ++p) {
    const int32_t* row = static_cast<const int32_t*>(tile) + p * kBlock;
    __m256i x[kVectors], code[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      x[v] = from_int ? corrected(&t->correction, row, p, v) : load(row + v * 8);
      if (rule == kAffine) code[v] = _mm256_cvtps_epi32(line<from_int>(t, x[v], v, levels));
    }
    if (rule != kAffine && t->negate) change_signs<from_int>(t, x);
    if (rule == kCompare) threshold_codes<from_int>(t, x, levels, code);
    if (rule == kGuided) guided_codes<from_int>(t, x, levels, code);
    put_codes(t, p, pack_codes(code));
  }
}

template <bool from_int>
static inline void to_codes(const CodeStage* t, const void* tile) {
  if (t->rule == kAffine) return all_codes<from_int, kAffine>(t, tile);
  // Up to seven thresholds are compared as fast as they are avoided.
  t->rule == kGuided && t->bits > 3 ? all_codes<from_int, kGuided>(t, tile) : all_codes<from_int, kCompare>(t, tile);
}

static void int_to_codes(const CodeStage* t, const void* tile) { to_codes<true>(t, tile); }
static void float_to_codes(const CodeStage* t, const void* tile) { to_codes<false>(t, tile); }

// ---- Rows ----

static void pixel_sums(const PixelSums* t) {
  if (t->planes || t->bytes < 32) return generic_pixel_sums(t);
  for (int x = 0; x < t->pixels; ++x) {
    const uint8_t* pixel = t->row + x * t->pixel_bytes;
    __m256i sums = _mm256_setzero_si256();
    int k = 0;
    for (; k + 32 <= t->bytes; k += 32) {
      sums = _mm256_add_epi64(sums, _mm256_sad_epu8(load(pixel + k), _mm256_setzero_si256()));
    }
    if (k < t->bytes) {
      const __m256i rest = last_codes(pixel + k, t->bytes - k);
      sums = _mm256_add_epi64(sums, _mm256_sad_epu8(rest, _mm256_setzero_si256()));
    }
    const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    t->sums[x] = _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
  }
}

static void planes_to_bytes(uint8_t* out, const uint8_t* in, int64_t plane_bytes, int64_t channels, int bits) {
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) store(out + c, codes_of_planes(in + c / 8, plane_bytes, bits));
  generic_planes_to_bytes(out + c, in + c / 8, plane_bytes, channels - c, bits);
}

static void bytes_to_planes(uint8_t* out, int64_t plane_bytes, const uint8_t* in, int64_t channels, int bits) {
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    const __m256i codes = load(in + c);
    for (int i = 0; i < bits; ++i) {
      const uint32_t plane = plane_of(codes, i);
      __builtin_memcpy(out + i * plane_bytes + c / 8, &plane, 4);
    }
  }
  generic_bytes_to_planes(out + c / 8, plane_bytes, in + c, channels - c, bits);
}

static constexpr void set_stages(KernelTable* t) {
  t->finish_int = finish_int;
  t->int_to_float = int_to_float;
  t->float_to_float = float_to_float;
  t->int_to_codes = int_to_codes;
  t->float_to_codes = float_to_codes;
  t->pixel_sums = pixel_sums;
  t->rows.planes_to_bytes = planes_to_bytes;
  t->rows.bytes_to_planes = bytes_to_planes;
}
