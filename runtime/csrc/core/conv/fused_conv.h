// A convolution by a fused kernel: bands of whole output rows, shared among threads.
#pragma once
#include <cstdint>
#include <memory>

#include "core/conv/conv.h"
#include "core/conv/fused_layer.h"

namespace bitorch {

// What a kernel prepared for a layer; layers with the same weights and numbers share it. No layer: they do not suit it.
struct FusedWeights {
  std::unique_ptr<const FusedLayer> layer;
  Kept<uint8_t> prepared;
};

class FusedConv {
 public:
  // Null where the kernel does not serve the layer.
  static std::unique_ptr<FusedConv> make(const ConvSpec& spec, const FusedKernel& kernel, Preparation& preparation,
                                         const Layout& input, const Layout* out_float, const Layout* out_codes,
                                         const Layout* residual);

  int64_t scratch_bytes(int64_t batch, int threads) const;
  void run(const Conv::Buffers& buffers, int64_t batch, int threads) const;
  // As Conv's.
  void run_rows(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const;
  int64_t rows_scratch() const { return part_bytes_; }

  const FusedKernel& kernel() const { return *kernel_; }
  int64_t weight_bytes() const { return weights_->prepared->size(); }
  double nanoseconds() const { return nanoseconds_; }

 private:
  // Who shares a layer: groups of channels, and in each so many items, rows of the batch or grains of joined pixels.
  struct Parts {
    int workers = 1;
    int64_t groups = 1, items = 0;  // groups divide workers
    double nanoseconds = 0;
  };
  Parts parts(int64_t batch, int threads) const;
  // Rows of the batch or grains of joined pixels: `pixels` together, which take so long on one thread.
  struct Pieces {
    int64_t count, pixels_each, pixels;
    double nanoseconds;
  };
  Parts divided(int64_t batch, const Pieces& pieces, int threads) const;
  double moved_nanoseconds(int64_t batch, int64_t groups) const;
  int64_t joined_pixels(int64_t batch) const;
  bool pools() const;
  int64_t result_rows() const;  // of an image
  void run_rows(const Conv::Buffers& buffers, int64_t first, int64_t last, FusedBand band) const;
  void run_grains(const Conv::Buffers& buffers, int64_t first, int64_t last, int64_t pixels, FusedBand band) const;
  void point_to(const Conv::Buffers& buffers, int64_t n, int64_t y, int64_t x, FusedBand* band) const;
  FusedBand band_of_layer() const;
  void zero_halos(const Conv::Buffers& buffers, int64_t first, int64_t last) const;

  const FusedKernel* kernel_ = nullptr;
  std::shared_ptr<const FusedWeights> weights_;
  ConvGeometry geometry_;
  Layout input_, out_float_, out_codes_, residual_;
  bool joins_rows_ = false, joins_images_ = false;
  int64_t part_bytes_ = 0;
  double nanoseconds_ = 0;
};

}  // namespace bitorch
