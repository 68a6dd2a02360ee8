// Normalisations and reductions in plain C++ for any architecture.
#include <cstdint>

#include "../core/norm_kernels.h"

namespace bitorch {

namespace norms_portable {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "norms.inl"

}  // namespace

}  // namespace norms_portable

constexpr NormKernels kPortableNorms = norms_portable::norm_kernels();

}  // namespace bitorch
