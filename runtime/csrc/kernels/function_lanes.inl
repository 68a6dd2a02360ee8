// Vectors of floats, and what the functions of functions.inl are made of: operations that round once, the same in every
// lane of a vector of any size. Vectors are spelled out, since compilers make branches of comparisons where they can.

#include "float_vectors.inl"

typedef uint32_t FloatBits __attribute__((vector_size(sizeof(Floats))));
typedef int32_t FloatInts __attribute__((vector_size(sizeof(Floats))));

static inline Floats all_lanes(float value) { return Floats{} + value; }

static inline Floats absolute_lanes(Floats x) { return (Floats)((FloatBits)x & 0x7fffffffu); }

// The size of x with the sign of `sign`.
static inline Floats with_sign(Floats x, Floats sign) {
  constexpr uint32_t kSign = 0x80000000u;
#if defined(__AVX512F__)
  const __m512i bit = _mm512_set1_epi32(static_cast<int>(kSign));
  return (Floats)_mm512_ternarylogic_epi32(bit, (__m512i)sign, (__m512i)x, 0xca);  // bit ? sign : x
#else
  return (Floats)(((FloatBits)x & ~kSign) | ((FloatBits)sign & kSign));
#endif
}

#if defined(__AVX512F__)
constexpr __mmask16 kEvery = 0xffff;  // forms without a mask read what GCC takes for uninitialized
#endif

// a < b ? a : b, and a > b ? a : b: NaN in `b` stays, NaN in `a` does not.
#if defined(__AVX512F__)
static inline Floats least(Floats a, Floats b) { return (Floats)_mm512_maskz_min_ps(kEvery, (__m512)a, (__m512)b); }
static inline Floats most(Floats a, Floats b) { return (Floats)_mm512_maskz_max_ps(kEvery, (__m512)a, (__m512)b); }
#elif defined(__AVX__)
static inline Floats least(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
static inline Floats most(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
#elif defined(__SSE__)
static inline Floats least(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
static inline Floats most(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
#else
static inline Floats least(Floats a, Floats b) { return a < b ? a : b; }
static inline Floats most(Floats a, Floats b) { return a > b ? a : b; }
#endif

// a · b + c, rounded once. Without an instruction for it: in double the product is exact, and the sum is rounded to odd
// (to an odd last bit wherever it is not exact), from where rounding to float gives what one rounding would.
#if defined(__AVX512F__)
static inline Floats fused(Floats a, Floats b, Floats c) {
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
#elif defined(__FMA__)
static inline Floats fused(Floats a, Floats b, Floats c) {
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#elif defined(__aarch64__)
static inline Floats fused(Floats a, Floats b, Floats c) {
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
typedef double Doubles __attribute__((vector_size(16)));
typedef int64_t DoubleInts __attribute__((vector_size(16)));

static inline Doubles sum_rounded_to_odd(Doubles product, Doubles addend) {
  const Doubles sum = product + addend;
  const Doubles part = sum - product;
  const Doubles rest = (product - (sum - part)) + (addend - part);  // product + addend = sum + rest, exactly
  const Doubles side = rest * sum;  // below 0: the sum was rounded away from 0. NaN at infinities, which stay
  const DoubleInts away = side < Doubles{}, inexact = away | (side > Doubles{});  // -1 where it is so
  return (Doubles)(((DoubleInts)sum + away) | (inexact & 1));
}

static inline Floats fused(Floats a, Floats b, Floats c) {
#if defined(__SSE2__)
  const auto low = [](Floats x) { return (Doubles)_mm_cvtps_pd((__m128)x); };
  const auto high = [](Floats x) { return (Doubles)_mm_cvtps_pd(_mm_movehl_ps((__m128)x, (__m128)x)); };
  const Doubles first = sum_rounded_to_odd(low(a) * low(b), low(c));
  const Doubles second = sum_rounded_to_odd(high(a) * high(b), high(c));
  return (Floats)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)first), _mm_cvtpd_ps((__m128d)second));
#else
  Floats y;
  for (int i = 0; i < 4; i += 2) {
    const Doubles x = {a[i], a[i + 1]}, by = {b[i], b[i + 1]}, plus = {c[i], c[i + 1]};
    const Doubles sum = sum_rounded_to_odd(x * by, plus);
    y[i] = static_cast<float>(sum[0]);
    y[i + 1] = static_cast<float>(sum[1]);
  }
  return y;
#endif
}
#endif

static inline Floats fused(Floats a, float b, Floats c) { return fused(a, all_lanes(b), c); }
static inline Floats fused(Floats a, Floats b, float c) { return fused(a, b, all_lanes(c)); }
static inline Floats fused(Floats a, float b, float c) { return fused(a, all_lanes(b), all_lanes(c)); }

static inline Floats root(Floats x) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_sqrt_ps(kEvery, (__m512)x);
#elif defined(__AVX__)
  return (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE__)
  return (Floats)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
  return (Floats)vsqrtq_f32((float32x4_t)x);
#else
  Floats y;
  for (int64_t i = 0; i < kFloatLanes; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
#endif
}

// x · 2^k, rounded once, k whole, for x that is 0, infinite, or normal and 2^-22 or more wherever k is not 0, and where
// |x| · 2^-252 counts for 0.
static inline Floats times_power(Floats x, Floats k) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_scalef_ps(kEvery, (__m512)x, (__m512)k);
#else
  const Floats limited = least(all_lanes(254.0f), most(all_lanes(-252.0f), k));
  // Added to a small number, this leaves the nearest integer in the low bits.
  const FloatInts whole = (FloatInts)(limited + 0x1.8p23f) - 0x4b400000, half = whole >> 1;
  const FloatBits first = (FloatBits)(half + 127) << 23, second = (FloatBits)(whole - half + 127) << 23;
  return x * (Floats)first * (Floats)second;
#endif
}

// table[the low three bits of `rounded`], in each lane.
static inline Floats entries(const float (&table)[8], Floats rounded) {
#if defined(__AVX512F__)
  const __m512 twice = _mm512_maskz_broadcast_f32x8(kEvery, _mm256_load_ps(table));
  return (Floats)_mm512_maskz_permutexvar_ps(kEvery, (__m512i)rounded, twice);
#elif defined(__AVX2__)
  return (Floats)_mm256_permutevar8x32_ps(_mm256_load_ps(table), (__m256i)rounded);
#else
  const FloatBits index = (FloatBits)rounded & 7u;
  Floats y;
  for (int64_t i = 0; i < kFloatLanes; ++i) y[i] = table[index[i]];
  return y;
#endif
}

// Whether every x <= limit.
static inline bool all_at_most(Floats x, float limit) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(limit), _CMP_LE_OQ) == kEvery;
#elif defined(__AVX__)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_set1_ps(limit), _CMP_LE_OQ)) == 0xff;
#elif defined(__SSE__)
  return _mm_movemask_ps(_mm_cmple_ps((__m128)x, _mm_set1_ps(limit))) == 0xf;
#elif defined(__aarch64__)
  return vminvq_u32(vcleq_f32((float32x4_t)x, vdupq_n_f32(limit))) != 0;
#else
  bool all = true;
  for (int64_t i = 0; i < kFloatLanes; ++i) all = all && x[i] <= limit;
  return all;
#endif
}

// Whether all of n floats, a multiple of the lanes, are between -limit and limit; NaN is not.
static inline bool all_near(const float* in, int64_t n, float limit) {
  FloatInts largest = {};
  for (int64_t i = 0; i < n; i += kFloatLanes) {
    FloatInts bits;
    __builtin_memcpy(&bits, in + i, sizeof(bits));
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return all_at_most((Floats)largest, limit);
}
