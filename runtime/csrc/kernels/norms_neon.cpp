// Normalisations and reductions for 64-bit ARM.
#include <cstdint>

#include "../core/norm_kernels.h"

namespace bitorch {

namespace norms_neon {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "norms.inl"

}  // namespace

}  // namespace norms_neon

constexpr NormKernels kNeonNorms = norms_neon::norm_kernels();

}  // namespace bitorch
