// Products of matrices, of floats and of codes, and attention, with NEON.
#include "matrix_neon.inl"

namespace bitorch {

constexpr MatrixKernels kMatrixNeon = matrix_neon::kKernels;

}  // namespace bitorch
