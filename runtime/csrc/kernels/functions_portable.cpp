// Functions of floats with the baseline of any architecture: SSE2 of x86-64, NEON of 64-bit ARM.
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cstdint>

#include "../core/function_kernels.h"

namespace bitorch {
namespace functions_portable {
namespace {

#include "functions.inl"

}  // namespace
}  // namespace functions_portable

constexpr FunctionKernels kPortableFunctions = functions_portable::function_kernels();

}  // namespace bitorch
