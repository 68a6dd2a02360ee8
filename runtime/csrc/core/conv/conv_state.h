// What a convolution keeps from load to run. Private to conv*.cpp.
#pragma once
#include <cstdint>
#include <memory>

#include "core/base/checked.h"
#include "core/conv/border.h"
#include "core/conv/conv.h"
#include "core/conv/conv_weights.h"
#include "core/conv/thresholds.h"

namespace bitorch {

// A grid of tiles over the output, pixels of the whole batch x groups of blocks of channels, and who shares it.
struct ConvParts {
  int workers = 1;
  int64_t groups = 1, tile = 1, tiles = 0;  // pixels of a tile, tiles of a group
  double nanoseconds = 0;
};

struct ConvState {
  const KernelTable* kernels = nullptr;
  ConvGeometry geometry;
  Layout input, out_int, out_float, out_codes, residual;
  bool wants_int = false, wants_float = false, wants_codes = false, has_residual = false, relu = false;
  bool codes_from_int = false, has_float = false;
  int weight_bits = 0, activation_bits = 0;
  Method method = kFloat;
  PixelFormat format{};
  std::shared_ptr<const ConvWeights> weights;
  AlignedArray<int32_t> steps;       // byte offsets from a pixel, the same for every block
  int32_t shift = 0, sum_scale = 0;  // sum_scale == 0: no window sums
  AlignedArray<float> multiply, offset;
  AlignedArray<float> norm_multiply, norm_offset;  // empty where absent
  std::shared_ptr<const CodeRule> rule;            // null without codes
  std::shared_ptr<const ConvBorder> border;        // of sign activations and zero points, else null
  // Scratch of one part
  int64_t sum_rows = 0, sum_row_bytes = 0;  // ring of rows of pixel sums
  int64_t blocks_per_call = 1;              // blocks that one dot product serves; kTables only
  int64_t stage_rows = 0;                   // rows of staged input that are kept
  int64_t part_bytes = 0;

  int64_t out_height = 0, out_width = 0;
  int64_t out_pixels() const { return out_height * out_width; }
  // The ring, and a row of sums over kernel rows behind it.
  int64_t sum_bytes() const { return sum_rows == 0 ? 0 : checked_mul(sum_rows + 1, sum_row_bytes, "scratch memory"); }
  bool staged() const { return method == kWords || method == kTables; }
  void plan_scratch();
  ConvParts parts(int64_t batch, int threads) const;
  void run(const Conv::Buffers& buffers, int64_t batch, int threads) const;
  void run_rows(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const;
  // Of rows first .. last - 1 of image n.
  void zero_halos(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const;
  double nanoseconds(int64_t pixels) const;  // about
};

struct Conv::State : ConvState {};

}  // namespace bitorch
