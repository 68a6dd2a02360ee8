// Products of float matrices, and attention, with AVX2 and FMA. 4 x 3 sums, 3 vectors and a broadcast are all 16
// registers; 12 chains are enough for a latency of 4 cycles at two multiply-adds a cycle.
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

#include "matrix.inl"

}  // namespace

}  // namespace matrix_avx2

constexpr MatrixKernels kMatrixAvx2 = {matrix_avx2::kLanes, matrix_avx2::pack, matrix_avx2::multiply,
                                       matrix_avx2::exponentials};

}  // namespace bitorch
