// The same with the instruction that adds up four products of bytes.
#define BITORCH_DOTPROD
#include "matrix_neon.inl"

namespace bitorch {

constexpr MatrixKernels kMatrixNeonDotprod = matrix_neon::kKernels;

}  // namespace bitorch
