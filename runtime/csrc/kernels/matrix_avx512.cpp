// Products of matrices, of floats and of codes, and attention, with AVX-512. 8 x 3 sums, 3 vectors and a broadcast of
// 32 registers: 11 loads, 24 multiply-adds. GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for
// uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/matrix_kernels.h"

namespace bitorch {

namespace matrix_avx512 {

namespace {

constexpr int kLanes = 16, kMostRows = 8, kMostVectors = 3;
typedef float Vector __attribute__((vector_size(64)));

inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

inline void store_some(float* to, Vector v, int64_t n) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1), v);
}

inline Vector load_some(const float* from, int64_t n) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), from);
}

inline Vector larger(Vector a, Vector b) { return _mm512_max_ps(a, b); }

#include "matrix.inl"

typedef int32_t Sums __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(64)));
constexpr bool kFlips = true;

template <bool kWide>
inline Sums add_products(Sums sums, Bytes left, Bytes right) {
  return reinterpret_cast<Sums>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(left),
                                                    reinterpret_cast<__m512i>(right)));
}

#include "matrix_codes.inl"

typedef uint32_t Words __attribute__((vector_size(64)));
// Of all lanes one, by the four lowest bits.
constexpr int kTableBits = 4;
inline Vector from_table(Vector table, Words w) { return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(w), table); }

#include "matrix_slots.inl"

constexpr int kGroupRows = 8, kRowChains = 2;
constexpr uint32_t kSlotMinus = 0;

template <int S>
constexpr int64_t kPartWords = int64_t{1} << 62;

template <int S, bool kWide>
inline Sums add_codes(Sums part, Bytes m, Bytes a) {
  return add_products<false>(part, m, a);
}

template <int S>
inline Sums widened(Sums part) {
  return part;
}

#include "matrix_groups.inl"

}  // namespace

}  // namespace matrix_avx512

constexpr MatrixKernels kMatrixAvx512 = {
    matrix_avx512::kLanes,         matrix_avx512::pack,         matrix_avx512::multiply,
    matrix_avx512::exponentials,   matrix_avx512::kCodeLanes,   matrix_avx512::pack_codes,
    matrix_avx512::multiply_codes, matrix_avx512::sum_codes,    matrix_avx512::scale_sums,
    matrix_avx512::multiply_slots, matrix_avx512::unpack_slots, matrix_avx512::arrange_groups,
    matrix_avx512::multiply_groups};

}  // namespace bitorch
