// Floats to bytes, 32 at a time, and bytes to where products read them. What is left of an array is padded with zeros
// in memory of its own: nothing is read or written beyond it.

constexpr int kRun = 32;

// 4 x 8 numbers of 32 bits as 32 bytes, saturated.
__m256i narrow(const __m256i* of, bool is_signed) {
  const __m256i low = _mm256_packs_epi32(of[0], of[1]), high = _mm256_packs_epi32(of[2], of[3]);
  const __m256i bytes = is_signed ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// run(from, first, count) for runs of 32 floats from `first` on; `count` of them are there, the others are zeros.
template <class F>
void for_runs(const float* x, int64_t n, const F& run) {
  int64_t i = 0;
  for (; i + kRun <= n; i += kRun) run(x + i, i, static_cast<int64_t>(kRun));
  if (i == n) return;
  float last[kRun] = {};
  for (int64_t k = 0; i + k < n; ++k) last[k] = x[i + k];
  run(last, i, n - i);
}

template <class T>
void put_bytes(T* to, int64_t count, __m256i bytes) {
  if (count == kRun) {
    store_anywhere(to, bytes);
    return;
  }
  alignas(32) T all[kRun];
  store(all, bytes);
  for (int64_t i = 0; i < count; ++i) to[i] = all[i];
}

int32_t quantize(const float* x, int64_t n, float levels, uint8_t* codes, uint8_t* inside) {
  const __m256 zero = _mm256_setzero_ps(), one = _mm256_set1_ps(1), factor = _mm256_set1_ps(levels);
  __m256 nan = zero;
  for_runs(x, n, [&](const float* from, int64_t first, int64_t count) {
    __m256i whole[4];
    uint32_t bits = 0;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m256 v = _mm256_loadu_ps(from + kVector * k);
      const __m256 clipped = _mm256_min_ps(_mm256_max_ps(v, zero), one);
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
      // Within the range a number is what it is clipped to.
      bits |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, clipped, _CMP_EQ_OQ))) << (kVector * k);
      whole[k] = _mm256_cvtps_epi32(_mm256_mul_ps(clipped, factor));
    }
    put_bytes(codes + first, count, narrow(whole, false));
    if (inside == nullptr) return;
    if (count == kRun) {
      __builtin_memcpy(inside + first / 8, &bits, 4);
      return;
    }
    bits &= (1u << count) - 1;
    for (int64_t b = 0; 8 * b < count; ++b) inside[first / 8 + b] = static_cast<uint8_t>(bits >> (8 * b));
  });
  return _mm256_movemask_ps(nan) != 0;
}

int32_t take_codes(const float* x, int64_t n, int32_t low, int32_t levels, uint8_t* bytes) {
  const __m256 lowest = _mm256_set1_ps(static_cast<float>(low)), most = _mm256_set1_ps(static_cast<float>(levels));
  const __m256 of_nan = _mm256_castsi256_ps(_mm256_set1_epi32(-low));
  __m256 nan = _mm256_setzero_ps();
  for_runs(x, n, [&](const float* from, int64_t first, int64_t count) {
    __m256i whole[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m256 v = _mm256_loadu_ps(from + kVector * k), is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
      nan = _mm256_or_ps(nan, is_nan);
      const __m256 from_low = _mm256_min_ps(_mm256_max_ps(_mm256_sub_ps(v, lowest), _mm256_setzero_ps()), most);
      const __m256 code = _mm256_castsi256_ps(_mm256_cvtps_epi32(from_low));
      whole[k] = _mm256_castps_si256(_mm256_blendv_ps(code, of_nan, is_nan));
    }
    put_bytes(bytes + first, count, narrow(whole, false));
  });
  return _mm256_movemask_ps(nan) != 0;
}

uint32_t largest(const float* g, int64_t n) {
  const __m256i size = _mm256_set1_epi32(0x7fffffff);
  __m256i most[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for_runs(g, n, [&](const float* from, int64_t, int64_t) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      most[k] = _mm256_max_epu32(most[k], _mm256_and_si256(size, load_anywhere(from + kVector * k)));
    }
  });
  const __m256i all = _mm256_max_epu32(_mm256_max_epu32(most[0], most[1]), _mm256_max_epu32(most[2], most[3]));
  __m128i half = _mm_max_epu32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(half));
}

__m256i mix(__m256i x, __m256i key0, __m256i key1) {
  x = _mm256_xor_si256(x, key0);
  x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
  x = _mm256_mullo_epi32(x, _mm256_set1_epi32(0x7feb352d));
  x = _mm256_xor_si256(_mm256_xor_si256(x, key1), _mm256_srli_epi32(x, 15));
  x = _mm256_mullo_epi32(x, _mm256_set1_epi32(static_cast<int32_t>(0x846ca68b)));
  x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
  return _mm256_or_si256(x, _mm256_set1_epi32(0x00010001));
}

// 32 numbers take the low halves of 16 words of noise, then the high ones, each in the upper half of 32 bits.
void draw(const GradientCodes* c, int64_t first, __m256i* noise) {
  const __m256i key0 = _mm256_set1_epi32(static_cast<int32_t>(c->key[0]));
  const __m256i key1 = _mm256_set1_epi32(static_cast<int32_t>(c->key[1]));
  const auto word = static_cast<int32_t>(c->word + static_cast<uint32_t>(first / 2));
  const __m256i lane = _mm256_add_epi32(_mm256_set1_epi32(word), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#pragma GCC unroll 2
  for (int k = 0; k < 2; ++k) {
    const __m256i hash = mix(_mm256_add_epi32(lane, _mm256_set1_epi32(kVector * k)), key0, key1);
    noise[k] = _mm256_slli_epi32(hash, 16);
    noise[2 + k] = _mm256_and_si256(hash, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000)));
  }
}

template <bool noisy, bool has_zero>
void codes_of_gradient(const GradientCodes* c) {
  const __m256 factor = _mm256_set1_ps(c->factor);
  // Without noise both grids are rounded half to even: one from its middle, the other from its lowest level.
  const __m256 middle = _mm256_set1_ps(has_zero ? 0 : static_cast<float>(c->high) + 0.5f);
  const __m256i lowest = _mm256_set1_epi32(has_zero ? 0 : c->low);
  const __m256i low = _mm256_set1_epi8(static_cast<char>(c->low)), high = _mm256_set1_epi8(static_cast<char>(c->high));
  const __m256 unit = _mm256_set1_ps(0x1p-32f);
  for_runs(c->g, c->n, [&](const float* from, int64_t first, int64_t count) {
    __m256i whole[4], noise[4];
    if (noisy) draw(c, first, noise);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(from + kVector * k), factor);
      if (noisy) {
        const __m256 v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(noise[k]), unit, y);
        whole[k] = _mm256_cvtps_epi32(has_zero ? v : _mm256_floor_ps(v));
      } else {
        whole[k] = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_add_ps(y, middle)), lowest);
      }
    }
    const __m256i code = _mm256_max_epi8(_mm256_min_epi8(narrow(whole, true), high), low);
    if (c->levels != nullptr) put_bytes(c->levels + first, count, _mm256_sub_epi8(code, low));
    const __m256i odd = _mm256_add_epi8(_mm256_add_epi8(code, code), _mm256_set1_epi8(1));
    put_bytes(c->codes + first, count, c->odd ? odd : code);
  });
}

void gradient_codes(const GradientCodes* c) {
  if (c->noisy) {
    c->has_zero ? codes_of_gradient<true, true>(c) : codes_of_gradient<true, false>(c);
  } else {
    c->has_zero ? codes_of_gradient<false, true>(c) : codes_of_gradient<false, false>(c);
  }
}

// n bytes, then zeros.
__m256i load_bytes(const uint8_t* from, int32_t n) {
  if (n >= kRun) return load_anywhere(from);
  alignas(32) uint8_t bytes[kRun] = {};
  int32_t at = 0;
#pragma GCC unroll 5
  for (int32_t size = kRun / 2; size > 0; size /= 2) {
    if ((n & size) == 0) continue;
    __builtin_memcpy(bytes + at, from + at, static_cast<size_t>(size));
    at += size;
  }
  return load(bytes);
}

// 32 channels of four rows.
void interleave_half(const uint8_t* const* rows, int32_t first, int32_t n, uint8_t* out) {
  __m256i row[4];
#pragma GCC unroll 4
  for (int b = 0; b < 4; ++b) {
    row[b] = rows[b] == nullptr || n <= 0 ? _mm256_setzero_si256() : load_bytes(rows[b] + first, n);
  }
  const __m256i low0 = _mm256_unpacklo_epi8(row[0], row[1]), high0 = _mm256_unpackhi_epi8(row[0], row[1]);
  const __m256i low1 = _mm256_unpacklo_epi8(row[2], row[3]), high1 = _mm256_unpackhi_epi8(row[2], row[3]);
  // Half k of quads[j] has channels 16k + 4j and three more.
  const __m256i quads[4] = {_mm256_unpacklo_epi16(low0, low1), _mm256_unpackhi_epi16(low0, low1),
                            _mm256_unpacklo_epi16(high0, high1), _mm256_unpackhi_epi16(high0, high1)};
  store(out, _mm256_permute2x128_si256(quads[0], quads[1], 0x20));
  store(out + 32, _mm256_permute2x128_si256(quads[2], quads[3], 0x20));
  store(out + 64, _mm256_permute2x128_si256(quads[0], quads[1], 0x31));
  store(out + 96, _mm256_permute2x128_si256(quads[2], quads[3], 0x31));
}

void interleave(const uint8_t* const* rows, int32_t n, uint8_t* out) {
  interleave_half(rows, 0, n, out);
  interleave_half(rows, kRun, n - kRun, out + 4 * kRun);
}
