// Depthwise convolutions on codes in bytes, AVX-512 with VNNI: 64 channels in a vector.
//
// depthwise8: weights of one bit, sums that fit a byte. A weight -1 turns all bits of a code around, which is -q - 1:
//
//   D = sum over taps of (q xor s) + the number of taps with s, s = 0 or 255      two operations per tap and 64
//   channels
//
// depthwise4: all bits. Four rows are interleaved, so that a dword holds four taps of one channel and vpdpbusd adds
// four products; several rows of outputs read the same dwords, with weights moved up and zeros in their place:
//
//   rows     y0 y1 y2 y3        dword of a channel and column: (y0, y1, y2, y3)
//   row 0    w0 w1 w2 0         3x3: 12 vpdpbusd for 64 outputs and 8 moves per column for two rows of outputs
//   row 1    0  w0 w1 w2
//
// Weights that do not fit int8, the odd 8-bit ones, are sums of two that do.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_depthwise {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lines.inl"

#include "fused_lanes.inl"

#include "fused_depthwise.inl"

#include "fused_depthwise_finish.inl"

#include "fused_depthwise_lines.inl"

#include "fused_depthwise_sums.inl"

#include "fused_depthwise_run.inl"

}  // namespace

}  // namespace fused_depthwise

extern const FusedKernel kFusedDepthwise8, kFusedDepthwise4;
constexpr FusedKernel kFusedDepthwise8 = fused_depthwise::kernel<fused_depthwise::Bytes>("depthwise8 avx512");
constexpr FusedKernel kFusedDepthwise4 = fused_depthwise::kernel<fused_depthwise::Quads>("depthwise4 avx512-vnni");

}  // namespace bitorch
