// Normalisations and reductions with AVX-512.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/norm_kernels.h"

namespace bitorch {

namespace norms_avx512 {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "norms.inl"

}  // namespace

}  // namespace norms_avx512

constexpr NormKernels kAvx512Norms = norms_avx512::norm_kernels();

}  // namespace bitorch
