#include "core/conv/fused_conv.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/checked.h"
#include "core/base/cpu.h"
#include "core/base/threads.h"

namespace bitorch {

namespace {

// A part of less work is not worth waking a thread for.
constexpr double kPartNanoseconds = 4000;
// Parts of joined pixels begin at multiples of this many, and so many at most are handed over at once.
constexpr int64_t kGrain = 32, kMostPixels = int64_t{1} << 20;

// The kernel's own form of the weights, or null where they do not suit it.
std::shared_ptr<const FusedWeights> prepare(const ConvSpec& spec, const FusedKernel& kernel, const Layout& input,
                                            const Layout* out_codes, Preparation& preparation) {
  auto weights = std::make_shared<FusedWeights>();
  std::unique_ptr<FusedLayer> layer = make_fused_layer(spec, input, out_codes, preparation);
  if (layer == nullptr || kernel.cost(&layer->spec, machine()) < 0) return nullptr;
  Budget& budget = preparation.budget();
  const int64_t count = checked_mul(spec.geometry.out_channels, spec.geometry.inputs_per_output(), "weights");
  TemporaryArray<uint8_t> m(budget, count, "a layer's weights");
  budget.work(checked_mul(count, 4, "weights"));
  write_weights(spec, *layer, budget, m.data());
  weights->prepared =
      AlignedArray<uint8_t>(budget, kernel.prepared_bytes(&layer->spec), "the weights, prepared for this CPU");
  if (!kernel.prepare(&layer->spec, m.data(), weights->prepared.data())) return nullptr;
  weights->layer = std::move(layer);
  return weights;
}

// From one pixel to the next, where all pixels of an image are at one distance; else 0.
int64_t pixel_step(const Layout& l) {
  if (l.width == 1) return l.height == 1 ? l.image_bytes : l.row_bytes;
  return l.height == 1 || l.row_bytes == l.width * l.pixel_bytes ? l.pixel_bytes : 0;
}

bool has_one_step(const Layout& l, bool across_images) {
  const int64_t step = pixel_step(l);
  return step != 0 && (!across_images || l.image_bytes == l.width * l.height * step);
}

// Whether each pixel is computed from the one of its place, all in the same way.
bool is_pointwise(const ConvGeometry& g) {
  const int64_t padding = g.pad_top + g.pad_left + g.pad_bottom + g.pad_right;
  return g.kernel_h == 1 && g.kernel_w == 1 && g.stride_h == 1 && g.stride_w == 1 && padding == 0;
}

}  // namespace

std::unique_ptr<FusedConv> FusedConv::make(const ConvSpec& spec, const FusedKernel& kernel, Preparation& preparation,
                                           const Layout& input, const Layout* out_float, const Layout* out_codes,
                                           const Layout* residual) {
  auto conv = std::make_unique<FusedConv>();
  conv->kernel_ = &kernel;
  conv->geometry_ = spec.geometry;
  conv->input_ = input;
  if (out_float != nullptr) conv->out_float_ = *out_float;
  if (out_codes != nullptr) conv->out_codes_ = *out_codes;
  if (residual != nullptr) conv->residual_ = *residual;
  conv->weights_ = prepare(spec, kernel, input, out_codes, preparation);
  if (conv->weights_ == nullptr) return nullptr;
  const FusedSpec& fused = conv->weights_->layer->spec;
  conv->nanoseconds_ = kernel.cost(&fused, machine());
  const auto joins = [&](bool across_images) {
    for (const Layout* layout : {&input, out_float, out_codes, residual}) {
      if (layout != nullptr && !has_one_step(*layout, across_images)) return false;
    }
    return kernel.joins_pixels && is_pointwise(spec.geometry);
  };
  conv->joins_rows_ = joins(false);
  conv->joins_images_ = joins(true);
  conv->part_bytes_ = round_up(checked_add(kernel.scratch_bytes(&fused), kSlack, "scratch memory"), 64);
  return conv;
}

// Rows first: parts of channels read the same input, and window sums are theirs each.
FusedConv::Parts FusedConv::parts(int64_t batch, int threads) const {
  const int64_t rows = batch * weights_->layer->spec.height;
  const int64_t runs = ceil_div(geometry_.out_channels, kFusedChannels);
  const auto limit =
      static_cast<int64_t>(std::min<double>(threads, nanoseconds_ * static_cast<double>(batch) / kPartNanoseconds));
  Parts best;
  int64_t least = rows * runs;
  for (int64_t channels = 1; channels <= std::min(limit, runs); ++channels) {
    const int64_t per_rows = std::min(limit / channels, rows);
    const int64_t load = ceil_div(rows, per_rows) * ceil_div(runs, channels);
    if (load >= least) continue;
    least = load;
    best = {per_rows, channels};
  }
  return best;
}

int64_t FusedConv::joined_pixels(int64_t batch) const {
  if (!joins_rows_) return 0;
  const FusedSpec& spec = weights_->layer->spec;
  return (joins_images_ ? batch : 1) * spec.height * spec.width;
}

// Channels first: weights are divided, and pixels share them.
FusedConv::Parts FusedConv::parts_of_pixels(int64_t pixels, int threads) const {
  FusedSpec all = weights_->layer->spec;
  all.height = 1;
  all.width = static_cast<int32_t>(std::min<int64_t>(pixels, std::numeric_limits<int32_t>::max()));
  const auto limit = static_cast<int64_t>(std::min<double>(threads, kernel_->cost(&all, machine()) / kPartNanoseconds));
  const int64_t runs = ceil_div(geometry_.out_channels, kFusedChannels), grains = ceil_div(pixels, kGrain);
  Parts best;
  int64_t least = grains * runs;
  for (int64_t channels = std::min(limit, runs); channels >= 1; --channels) {
    const int64_t per_pixels = std::min(limit / channels, grains);
    const int64_t load = ceil_div(grains, per_pixels) * ceil_div(runs, channels);
    if (load >= least) continue;
    least = load;
    best = {per_pixels, channels};
  }
  return best;
}

int64_t FusedConv::scratch_bytes(int64_t batch, int threads) const {
  const int64_t pixels = joined_pixels(batch);
  const Parts parts = pixels != 0 ? parts_of_pixels(pixels, threads) : this->parts(batch, threads);
  return checked_mul(part_bytes_, parts.count(), "scratch memory");
}

void FusedConv::run(const Conv::Buffers& buffers, int64_t batch, int threads) const {
  const int64_t pixels = joined_pixels(batch);
  if (pixels == 0) {
    const Parts parts = this->parts(batch, threads);
    return parallel_for(parts.count(), [&](int part) { run_part(buffers, batch, parts, part); });
  }
  const Parts parts = parts_of_pixels(pixels, threads);
  for (int64_t image = 0; image < (joins_images_ ? 1 : batch); ++image) {
    parallel_for(parts.count(), [&](int part) { run_pixels(buffers, image, pixels, parts, part); });
  }
}

// All that is the same for every band.
FusedBand FusedConv::band_of_layer() const {
  FusedBand band = {};
  band.prepared = weights_->prepared.data();
  band.row_bytes = input_.row_bytes;
  band.pixel_bytes = input_.pixel_bytes;
  band.plane_bytes = input_.plane_bytes;
  band.codes_row = out_codes_.row_bytes;
  band.codes_pixel = out_codes_.pixel_bytes;
  band.codes_plane = out_codes_.plane_bytes;
  band.out_row = out_float_.row_bytes;
  band.out_pixel = out_float_.pixel_bytes;
  band.residual_row = residual_.row_bytes;
  band.residual_pixel = residual_.pixel_bytes;
  band.width = weights_->layer->spec.width;
  return band;
}

// And what a part adds: its scratch and its channels.
FusedBand FusedConv::band_of_part(const Conv::Buffers& buffers, const Parts& parts, int part) const {
  const int64_t q = part % parts.channels, runs = ceil_div(geometry_.out_channels, kFusedChannels);
  const int64_t first = runs * q / parts.channels * kFusedChannels;
  const int64_t last = std::min(geometry_.out_channels, runs * (q + 1) / parts.channels * kFusedChannels);
  FusedBand band = band_of_layer();
  band.scratch = buffers.scratch + part * part_bytes_;
  band.first_channel = static_cast<int32_t>(first);
  band.channels = static_cast<int32_t>(last - first);
  return band;
}

// Part of the pixels of an image, or of all from image 0 on, as one row.
void FusedConv::run_pixels(const Conv::Buffers& buffers, int64_t image, int64_t pixels, const Parts& parts,
                           int part) const {
  const FusedSpec& spec = weights_->layer->spec;
  const int64_t p = part / parts.channels, grains = ceil_div(pixels, kGrain);
  FusedBand band = band_of_part(buffers, parts, part);
  band.rows = 1;
  band.pixel_bytes = pixel_step(input_);
  band.codes_pixel = pixel_step(out_codes_);
  band.out_pixel = pixel_step(out_float_);
  band.residual_pixel = pixel_step(residual_);
  const int64_t end = std::min(pixels, grains * (p + 1) / parts.rows * kGrain);
  for (int64_t at = grains * p / parts.rows * kGrain; at < end; at += band.width) {
    band.width = static_cast<int32_t>(std::min(end - at, kMostPixels));
    band.input = buffers.input + input_.offset(image, 0, 0) + at * band.pixel_bytes;
    if (spec.epilogue.wants_codes) {
      band.codes = buffers.out_codes + out_codes_.offset(image, 0, 0) + at * band.codes_pixel;
    }
    if (spec.epilogue.wants_float) {
      band.out = reinterpret_cast<float*>(buffers.out_float + out_float_.offset(image, 0, 0) + at * band.out_pixel);
    }
    if (spec.epilogue.has_residual) {
      const uint8_t* residual = buffers.residual + residual_.offset(image, 0, 0) + at * band.residual_pixel;
      band.residual = reinterpret_cast<const float*>(residual);
    }
    kernel_->run(&spec, &band);
  }
}

void FusedConv::run_part(const Conv::Buffers& buffers, int64_t batch, const Parts& parts, int part) const {
  const FusedSpec& spec = weights_->layer->spec;
  const FusedEpilogue& e = spec.epilogue;
  const int64_t p = part / parts.channels, rows = batch * spec.height;
  FusedBand band = band_of_part(buffers, parts, part);
  for (int64_t row = rows * p / parts.rows; row < rows * (p + 1) / parts.rows; row += band.rows) {
    const int64_t n = row / spec.height, y = row % spec.height;
    band.y0 = static_cast<int32_t>(y);
    band.rows = static_cast<int32_t>(std::min(spec.height - y, rows * (p + 1) / parts.rows - row));
    band.input = buffers.input + input_.offset(n, y * geometry_.stride_h - geometry_.pad_top, -geometry_.pad_left);
    if (e.wants_codes) band.codes = buffers.out_codes + out_codes_.offset(n, y, 0);
    if (e.wants_float) band.out = reinterpret_cast<float*>(buffers.out_float + out_float_.offset(n, y, 0));
    if (e.has_residual) {
      band.residual = reinterpret_cast<const float*>(buffers.residual + residual_.offset(n, y, 0));
    }
    kernel_->run(&spec, &band);
  }
}

}  // namespace bitorch
