// Products of matrices, of floats and of codes, and attention, with AVX2 and FMA. 4 x 3 sums, 3 vectors and a broadcast
// are all 16 registers; 12 chains are enough for a latency of 4 cycles at two multiply-adds a cycle.
#include <immintrin.h>

#include <cstdint>

#include "../core/matrix_kernels.h"

namespace bitorch {

namespace matrix_avx2 {

namespace {

constexpr int kLanes = 8, kMostRows = 4, kMostVectors = 3;
typedef float Vector __attribute__((vector_size(32)));

inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

inline void store_some(float* to, Vector v, int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)), lane), v);
}

inline Vector load_some(const float* from, int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)), lane));
}

inline Vector larger(Vector a, Vector b) { return _mm256_max_ps(a, b); }

#include "matrix.inl"

typedef int32_t Sums __attribute__((vector_size(32)));
typedef uint8_t Bytes __attribute__((vector_size(32)));
constexpr bool kFlips = true;

// Two products of 7 bits and a signed byte are at most 2 * 127 * 128, which 16 bits hold; of 8 bits the highest is
// taken alone.
template <bool kWide>
inline Sums add_products(Sums sums, Bytes left, Bytes right) {
  const __m256i a = reinterpret_cast<__m256i>(left), b = reinterpret_cast<__m256i>(right);
  const __m256i one = _mm256_set1_epi16(1);
  if (!kWide) return sums + reinterpret_cast<Sums>(_mm256_madd_epi16(_mm256_maddubs_epi16(a, b), one));
  const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(a, _mm256_set1_epi8(127)), b);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(a, 7), _mm256_set1_epi8(1));
  const __m256i top = _mm256_madd_epi16(_mm256_maddubs_epi16(high, b), _mm256_set1_epi16(128));
  return sums + reinterpret_cast<Sums>(_mm256_add_epi32(_mm256_madd_epi16(low, one), top));
}

#include "matrix_codes.inl"

typedef uint32_t Words __attribute__((vector_size(32)));
// Of each four lanes one, by the two lowest bits.
constexpr int kTableBits = 2;
inline Vector from_table(Vector table, Words w) { return _mm256_permutevar_ps(table, reinterpret_cast<__m256i>(w)); }

#include "matrix_slots.inl"

// 4 x 2 parts, two vectors of codes, a broadcast and a mask are 12 registers.
constexpr int kGroupRows = 4, kRowChains = 1;
constexpr uint32_t kSlotMinus = 0;

// Two products of S bits and a signed byte are at most 2 (2^S - 1) 128, of which 16 bits hold 127, 42 or 8, and a word
// has 8, 4 or 2; of 7 bits they hold one.
template <int S>
constexpr int64_t kPartWords = S == 8   ? int64_t{1} << 62
                               : S == 4 ? 4
                                        : 8;

template <int S, bool kWide>
inline Sums add_codes(Sums part, Bytes m, Bytes a) {
  const __m256i codes = reinterpret_cast<__m256i>(m), bytes = reinterpret_cast<__m256i>(a);
  const __m256i sums = reinterpret_cast<__m256i>(part), one = _mm256_set1_epi16(1);
  if (S < 8) return reinterpret_cast<Sums>(_mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, bytes)));
  if (!kWide) return part + reinterpret_cast<Sums>(_mm256_madd_epi16(_mm256_maddubs_epi16(codes, bytes), one));
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(bytes, 8));
  return reinterpret_cast<Sums>(_mm256_add_epi32(sums, _mm256_add_epi32(even, odd)));
}

template <int S>
inline Sums widened(Sums part) {
  if (S == 8) return part;
  return reinterpret_cast<Sums>(_mm256_madd_epi16(reinterpret_cast<__m256i>(part), _mm256_set1_epi16(1)));
}

#include "matrix_groups.inl"

}  // namespace

}  // namespace matrix_avx2

constexpr MatrixKernels kMatrixAvx2 = {
    matrix_avx2::kLanes,         matrix_avx2::pack,           matrix_avx2::multiply,       matrix_avx2::exponentials,
    matrix_avx2::kCodeLanes,     matrix_avx2::pack_codes,     matrix_avx2::multiply_codes, matrix_avx2::sum_codes,
    matrix_avx2::scale_sums,     matrix_avx2::multiply_slots, matrix_avx2::unpack_slots,   matrix_avx2::arrange_groups,
    matrix_avx2::multiply_groups};

}  // namespace bitorch
