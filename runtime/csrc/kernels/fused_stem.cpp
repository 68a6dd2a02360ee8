// Fused first layers: images of 1 to 4 channels in bytes, AVX-512 with VNNI.
//
// With so few channels a tap fills no dword, but the taps of a kernel row adjoin: 7 x 3 bytes are 6 dwords instead of
// 7, 3 x 3 are 3, 5 x 1 are 2. What a dword holds behind the last tap meets weights of 0. P pixels x V vectors of
// channels are summed in registers, a chunk of a row of outputs in the L1 cache, and finished from there.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_stem {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_products.inl"

#include "fused_ints.inl"

#include "fused_lines.inl"

#include "fused_line_codes.inl"

constexpr int kSumRow = kFusedChannels;

#include "fused_list.inl"

#include "fused_bits.inl"

#include "fused_pool.inl"

#include "fused_stem.inl"

#include "fused_stem_dwords.inl"

}  // namespace

}  // namespace fused_stem

extern const FusedKernel kFusedStem = fused_stem::kKernel;

}  // namespace bitorch
