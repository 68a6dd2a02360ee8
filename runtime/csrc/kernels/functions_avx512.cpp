// Functions of floats with AVX-512.
#include <immintrin.h>

#include <cstdint>

#include "../core/function_kernels.h"

namespace bitorch {
namespace functions_avx512 {
namespace {

#include "functions.inl"

}  // namespace
}  // namespace functions_avx512

constexpr FunctionKernels kAvx512Functions = functions_avx512::function_kernels();

}  // namespace bitorch
