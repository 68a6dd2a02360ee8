// Functions of floats with AVX2 and FMA.
#include <immintrin.h>

#include <cstdint>

#include "../core/function_kernels.h"

namespace bitorch {
namespace functions_avx2 {
namespace {

#include "functions.inl"

}  // namespace
}  // namespace functions_avx2

constexpr FunctionKernels kAvx2Functions = functions_avx2::function_kernels();

}  // namespace bitorch
