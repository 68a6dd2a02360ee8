// Sums of one row of pixels, tile after tile.
#pragma once
#include <cstdint>

#include "core/training_kernels.h"

namespace bitorch {

// As TrainingDots, of any number of pixels.
struct TileRow {
  const uint8_t* in;
  int64_t in_row, in_step;
  const int8_t* weights;
  int64_t weight_row;
  int64_t rows, steps, pixels;
  int32_t channels;
  int32_t largest;
};

// finish(tile, first, count) takes the sums of pixels first .. first+count-1, tile after tile, all about as wide.
template <class F>
void for_tiles(const TrainingKernels& kernels, const TileRow& row, const F& finish) {
  alignas(64) int32_t tile[kTilePixels * kTileChannels];
  const int64_t tiles = (row.pixels + kTilePixels - 1) / kTilePixels;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = row.pixels * i / tiles;
    const auto count = static_cast<int32_t>(row.pixels * (i + 1) / tiles - first);
    const TrainingDots dots{row.in + first * row.in_step,
                            row.in_row,
                            row.in_step,
                            row.weights,
                            row.weight_row,
                            static_cast<int32_t>(row.rows),
                            static_cast<int32_t>(row.steps),
                            count,
                            row.channels,
                            tile,
                            row.largest};
    kernels.dots(&dots);
    finish(tile, first, count);
  }
}

// Taps of a window that meet something: those of index begin + tap within [0, extent).
struct TapRange {
  int64_t first, count;
};
inline TapRange taps_within(int64_t begin, int64_t taps, int64_t extent) {
  const int64_t first = begin < 0 ? -begin : 0;
  const int64_t end = begin + taps < extent ? taps : extent - begin;
  return end > first ? TapRange{first, end - first} : TapRange{0, 0};
}

}  // namespace bitorch
