// The sums of a forward on bit planes, for codes of few bits. q are bytes of x (InputCodes). Odd weight codes up to n =
// 2^bits - 1 are c = 2k - n, and
//
//   sum of q * c = 2 * (sum over planes i of k and j of q of 2^(i + j) * popcount(k_i & q_j)) - n * (sum of q)
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/training/input.h"
#include "core/training/scratch.h"
#include "core/training/shape.h"
#include "core/training/tiles.h"
#include "core/training/weight_codes.h"

namespace bitorch {

// Whether these kernels are faster on planes.
bool planes_pay(const TrainingKernels& kernels, const ConvShape& shape, const WeightCodes& weight,
                const InputCodes& input);

// A linear layer is a convolution of one row, whose columns are the samples.
ConvShape row_of_samples(const ConvShape& linear);

class ForwardPlanes {
 public:
  ForwardPlanes(const TrainingKernels& kernels, const ConvShape& shape, const WeightCodes& weight,
                const InputCodes& input);

  // Of one sample.
  struct Room {
    Scratch<uint8_t> planes;  // [bits][rows][width][bytes of a pixel], codes of 0 in the padding of columns
    Scratch<int32_t> pixels;  // sum of q, [rows][width]
    Scratch<int32_t> column;  // [width]
    Scratch<int32_t> halves;  // -n * (sum of q over the window), [out.rows][out.columns]
  };
  Room make_room() const;

  // Bytes of `count` pixels of row `row`, from column `first` on, `step` bytes apart.
  void put(const Room& room, const uint8_t* codes, int64_t step, int64_t row, int64_t first, int64_t count) const;
  // Writes halves, when all pixels are put.
  void sum_windows(const Room& room) const;

  // finish(tile, first, count) takes the sums of output pixels first .. first+count-1 of row y, as for_tiles() does,
  // for all tiles of `count` pixels from `first` on.
  template <class F>
  void for_tiles(const Room& room, int64_t block, int64_t y, int64_t first, int64_t count, const F& finish) const {
    alignas(64) int32_t tile[kTilePixels * kTileChannels];
    PlaneDots dots = row_dots(room, block, y);
    dots.tile = tile;
    const uint8_t* const in = dots.in;
    const int64_t tiles = (count + kTilePixels - 1) / kTilePixels;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t begin = first + count * i / tiles;
      dots.pixels = static_cast<int32_t>(first + count * (i + 1) / tiles - begin);
      dots.in = in + begin * dots.in_step;
      kernels_.planes->dots(&dots);
      finish(tile, begin, dots.pixels);
    }
  }

 private:
  void pack(const WeightCodes& weight);
  PlaneDots row_dots(const Room& room, int64_t block, int64_t y) const;
  int64_t row() const { return width_ * pixel_; }                // bytes
  int64_t plane() const { return s_.in.rows * row(); }           // bytes
  int64_t weight_row() const { return steps_ * kTileChannels; }  // dwords
  int64_t weight_plane() const { return blocks_of(s_.out_channels) * s_.kernel.rows * weight_row(); }

  const TrainingKernels& kernels_;
  ConvShape s_;
  InputCodes input_;
  int bits_, weight_bits_;
  int64_t pixel_, width_, steps_;  // bytes of a pixel, columns with padding, dwords of a window's row
  Scratch<uint32_t> packed_;       // [weight bits][blocks][kernel.rows][steps][64]
};

}  // namespace bitorch
