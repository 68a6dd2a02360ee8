// Fused first layers by tiles of Intel's AMX: images of 1 to 4 channels in bytes. Sapphire Rapids and later.
//
// With so few channels a window is many short runs of bytes. Copied side by side for every output, as fused_amx.cpp
// does, they take longer than their products; but the windows of neighbours overlap, and so do those of rows below each
// other. So a cache line is kept for each place along the row where an output's window may begin, with a slot for each
// of 8 (or 4) rows of the kernel: 8 (or 16) bytes from there on. A window is then a few of these lines,
//
//   line x        | row 0, from x on | row 1 | .. | row 7 |     7 x 7 x 3, stride 2: lines x, x + 1, x + 2, x + 3 of 2
//   line x + 1    | row 0, from x + 1 on | ..                   columns each; 3 x 3 x 3: line x alone, 3 columns
//
// which are loaded into tiles as they are, 16 outputs a line apart: a row of a tile that is in two cache lines takes
// five times as long. For the next row of outputs each line moves up by the stride and takes the new rows at its end.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_stem_amx {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_lines.inl"

#include "fused_line_codes.inl"

constexpr int kRows = 16, kRowBytes = 64, kTileBytes = kRows * kRowBytes;
constexpr int kGroup = kFusedChannels, kGroupTiles = kGroup / kRows;
constexpr int kSumRow = kGroup;

#include "fused_list.inl"

#include "fused_bits.inl"

#include "fused_pool.inl"

constexpr int kMostTiles = kListPixels / kRows;  // of pixels, multiplied together

#include "fused_amx_widen.inl"

#include "fused_amx_products.inl"

#include "fused_stem_amx.inl"

}  // namespace

}  // namespace fused_stem_amx

extern const FusedKernel kFusedStemAmx;
constexpr FusedKernel kFusedStemAmx = fused_stem_amx::kKernel;

}  // namespace bitorch
