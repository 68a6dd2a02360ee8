// Fused convolutions by population counts: avx512-vpopcntdq. Bit planes in; codes, floats or both out.
//
// A band is walked by blocks of up to 64 output pixels: window sums, then by up to 4 vectors of output channels the
// counts of the block into 16 KB of memory that stay in the L1 cache, and what becomes of them.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_popcount {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lanes.inl"

#include "fused_windows.inl"

#include "fused_popcount.inl"

#include "fused_popcount_prepare.inl"

#include "fused_popcount_run.inl"

#include "fused_popcount_few.inl"

#include "fused_popcount_cost.inl"

}  // namespace

}  // namespace fused_popcount

extern const FusedKernel kFusedPopcount8 = fused_popcount::kernel<1>("popcount8 avx512-vpopcntdq");
extern const FusedKernel kFusedPopcount16 = fused_popcount::kernel<2>("popcount16 avx512-vpopcntdq");
extern const FusedKernel kFusedPopcount32 = fused_popcount::kernel<4>("popcount32 avx512-vpopcntdq");

extern const FusedKernel kFusedPopcountFew = {"popcount-few avx512-vpopcntdq",    fused_popcount::few_cost,
                                              fused_popcount::few_prepared_bytes, fused_popcount::few_prepare,
                                              fused_popcount::few_scratch_bytes,  fused_popcount::run_few};

}  // namespace bitorch
