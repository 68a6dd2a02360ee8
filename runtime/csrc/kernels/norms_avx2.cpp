// Normalisations and reductions with AVX2.
#include <immintrin.h>

#include <cstdint>

#include "../core/norm_kernels.h"

namespace bitorch {

namespace norms_avx2 {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "norms.inl"

}  // namespace

}  // namespace norms_avx2

constexpr NormKernels kAvx2Norms = norms_avx2::norm_kernels();

}  // namespace bitorch
