// Linear layers by AMX, and by vpdpbusd where pixels are too few for tiles. Codes in bytes in; codes, floats or both
// out. Convolutions of many pixels are in fused_amx.cpp, which finishes 64 of them together.

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "../core/fused.h"
#include "../core/kernels.h"

namespace bitorch {

namespace fused_linear_amx {

// Members of classes are inline, and so emitted weakly wherever they are not inlined, unless their class is local.
namespace {

#include "fused_loops.inl"

#include "fused_ints.inl"

#include "fused_linear.inl"

#include "fused_linear_cost.inl"

constexpr int kLinearPixels = 2;  // more are for tiles

#include "fused_linear_avx512.inl"

#include "fused_linear_amx.inl"

// Nanoseconds of 64 channels x 64 input channels: of up to 16 pixels, and of each 32 with what their weights take, by
// bits.
constexpr double kWidenTile = 44, kPixel = 0.65, kPairOfTiles = 85, kPairOfTilesBit = 12;

// Larger images are for fused_amx.cpp.
constexpr double kMostImage = 32;

static double cost(const FusedSpec* spec, Machine machine) {
  if (!is_linear(spec)) return -1;
  const double pixels = static_cast<double>(spec->height) * spec->width;
  if (pixels > kMostImage) return -1;
  if (pixels < kLeastTilePixels) return vector_cost(spec, machine, pixels);
  const LinearMachine& on = linear_machine(machine);
  const double units = static_cast<double>(linear_blocks(spec) * tile_depths(spec));
  const double passes = pixels / packed_pixels(spec) > 1 ? pixels / packed_pixels(spec) : 1;
  const double pair = kPairOfTiles + kPairOfTilesBit * field_bits(spec->weight_bits);
  const double unit = pixels <= kTileRows ? kWidenTile + kPixel * pixels : pair * pixels / (2 * kTileRows);
  const double weights = passes * weight_nanoseconds(spec, on);
  const double products = units * unit;
  return (products > weights ? products : weights) + linear_rest(spec, on, pixels);
}

}  // namespace

}  // namespace fused_linear_amx

extern const FusedKernel kFusedLinearAmx = {"linear amx",
                                            fused_linear_amx::cost,
                                            fused_linear_amx::linear_bytes,
                                            fused_linear_amx::prepare_linear,
                                            fused_linear_amx::linear_amx_scratch,
                                            fused_linear_amx::run_linear_amx,
                                            true};

}  // namespace bitorch
