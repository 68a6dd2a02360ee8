// A convolution by a fused kernel: bands of whole output rows, shared among threads.
#pragma once
#include <cstdint>
#include <memory>

#include "core/conv/conv.h"
#include "core/conv/fused_layer.h"

namespace bitorch {

// What a kernel prepared for a layer; layers with the same weights and numbers share it.
struct FusedWeights {
  std::unique_ptr<const FusedLayer> layer;
  AlignedArray<uint8_t> prepared;
};

class FusedConv {
 public:
  // Null where the kernel does not serve the layer.
  static std::unique_ptr<FusedConv> make(const ConvSpec& spec, const FusedKernel& kernel, Preparation& preparation,
                                         const Layout& input, const Layout* out_float, const Layout* out_codes,
                                         const Layout* residual);

  int64_t scratch_bytes(int64_t batch, int threads) const;
  void run(const Conv::Buffers& buffers, int64_t batch, int threads) const;

  const FusedKernel& kernel() const { return *kernel_; }
  int64_t weight_bytes() const { return weights_->prepared.size(); }
  double nanoseconds() const { return nanoseconds_; }

 private:
  // A grid of parts: rows of the whole batch, or pixels where they are joined, x runs of channels.
  struct Parts {
    int64_t rows = 1, channels = 1;
    int count() const { return static_cast<int>(rows * channels); }
  };
  Parts parts(int64_t batch, int threads) const;
  Parts parts_of_pixels(int64_t pixels, int threads) const;
  void run_part(const Conv::Buffers& buffers, int64_t batch, const Parts& parts, int part) const;
  void run_pixels(const Conv::Buffers& buffers, int64_t image, int64_t pixels, const Parts& parts, int part) const;
  FusedBand band_of_layer() const;
  FusedBand band_of_part(const Conv::Buffers& buffers, const Parts& parts, int part) const;
  // Pixels that are handed over as one row: those of the batch or, where images are not at the distance of pixels, of
  // an image; 0 where rows are not joined.
  int64_t joined_pixels(int64_t batch) const;

  const FusedKernel* kernel_ = nullptr;
  std::shared_ptr<const FusedWeights> weights_;
  ConvGeometry geometry_;
  Layout input_, out_float_, out_codes_, residual_;
  bool joins_rows_ = false, joins_images_ = false;
  int64_t part_bytes_ = 0;
  double nanoseconds_ = 0;
};

}  // namespace bitorch
