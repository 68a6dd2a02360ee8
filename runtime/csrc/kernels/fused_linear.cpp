// Linear layers of few pixels by vpdpbusd: AVX-512 with VNNI. Codes in bytes in; codes, floats or both out.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_linear {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_linear.inl"

#include "fused_linear_cost.inl"

constexpr int kLinearPixels = 6;

#include "fused_linear_avx512.inl"

static double cost(const FusedSpec* spec, Machine machine) {
  if (!is_linear(spec)) return -1;
  const double pixels = static_cast<double>(spec->height) * spec->width;
  return vector_cost(spec, machine, pixels);
}

static int64_t scratch_bytes(const FusedSpec*) { return 0; }

}  // namespace

}  // namespace fused_linear

extern const FusedKernel kFusedLinear = {"linear avx512-vnni",
                                         fused_linear::cost,
                                         fused_linear::linear_bytes,
                                         fused_linear::prepare_linear,
                                         fused_linear::scratch_bytes,
                                         fused_linear::run_linear,
                                         true};

}  // namespace bitorch
