// Products of float matrices, and attention, with NEON: 8 x 3 sums, 3 vectors and a broadcast of 32 registers.
#include <arm_neon.h>

#include <cstdint>

#include "../core/matrix_kernels.h"

namespace bitorch {

namespace matrix_neon {

namespace {

constexpr int kLanes = 4, kMostRows = 8, kMostVectors = 3;
typedef float Vector __attribute__((vector_size(16)));

inline Vector multiply_add(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

inline void store_some(float* to, Vector v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = v[i];
}

#include "matrix.inl"

}  // namespace

}  // namespace matrix_neon

constexpr MatrixKernels kMatrixNeon = {matrix_neon::kLanes, matrix_neon::pack, matrix_neon::multiply,
                                       matrix_neon::exponentials};

}  // namespace bitorch
