// Products of float matrices, and attention, in plain C++ for any architecture.

#include <cstdint>

#include "../core/matrix_kernels.h"

namespace bitorch {

namespace matrix_portable {

namespace {

constexpr int kLanes = 4, kMostRows = 4, kMostVectors = 2;
typedef float Vector __attribute__((vector_size(16)));

inline Vector multiply_add(Vector a, Vector b, Vector c) { return a * b + c; }

inline void store_some(float* to, Vector v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = v[i];
}

#include "matrix.inl"

}  // namespace

}  // namespace matrix_portable

constexpr MatrixKernels kMatrixPortable = {matrix_portable::kLanes, matrix_portable::pack, matrix_portable::multiply,
                                           matrix_portable::exponentials};

}  // namespace bitorch
