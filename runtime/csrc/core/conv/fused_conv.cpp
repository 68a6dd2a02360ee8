#include "core/conv/fused_conv.h"

#include <algorithm>
#include <utility>

#include "core/base/checked.h"
#include "core/base/cpu.h"
#include "core/base/threads.h"

namespace bitorch {

namespace {

// A part of less work is not worth waking a thread for.
constexpr double kPartNanoseconds = 4000;

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

int64_t FusedConv::scratch_bytes(int64_t batch, int threads) const {
  return checked_mul(part_bytes_, parts(batch, threads).count(), "scratch memory");
}

void FusedConv::run(const Conv::Buffers& buffers, int64_t batch, int threads) const {
  const Parts parts = this->parts(batch, threads);
  parallel_for(parts.count(), [&](int part) { run_part(buffers, batch, parts, part); });
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
  return band;
}

void FusedConv::run_part(const Conv::Buffers& buffers, int64_t batch, const Parts& parts, int part) const {
  const FusedSpec& spec = weights_->layer->spec;
  const int64_t p = part / parts.channels, q = part % parts.channels;
  const int64_t rows = batch * spec.height, runs = ceil_div(geometry_.out_channels, kFusedChannels);
  const int64_t first = runs * q / parts.channels * kFusedChannels;
  const int64_t last = std::min(geometry_.out_channels, runs * (q + 1) / parts.channels * kFusedChannels);
  FusedBand band = band_of_layer();
  band.scratch = buffers.scratch + part * part_bytes_;
  band.first_channel = static_cast<int32_t>(first);
  band.channels = static_cast<int32_t>(last - first);
  for (int64_t row = rows * p / parts.rows; row < rows * (p + 1) / parts.rows; row += band.rows) {
    const int64_t n = row / spec.height, y = row % spec.height;
    run_band(buffers, n, y, std::min(spec.height - y, rows * (p + 1) / parts.rows - row), &band);
  }
}

// Rows y .. y + rows - 1 of image n.
void FusedConv::run_band(const Conv::Buffers& buffers, int64_t n, int64_t y, int64_t rows, FusedBand* band) const {
  const FusedSpec& spec = weights_->layer->spec;
  const FusedEpilogue& e = spec.epilogue;
  band->y0 = static_cast<int32_t>(y);
  band->rows = static_cast<int32_t>(rows);
  band->input = buffers.input + input_.offset(n, y * geometry_.stride_h - geometry_.pad_top, -geometry_.pad_left);
  if (e.wants_codes) band->codes = buffers.out_codes + out_codes_.offset(n, y, 0);
  if (e.wants_float) band->out = reinterpret_cast<float*>(buffers.out_float + out_float_.offset(n, y, 0));
  if (e.has_residual) {
    band->residual = reinterpret_cast<const float*>(buffers.residual + residual_.offset(n, y, 0));
  }
  kernel_->run(&spec, band);
}

void FusedConv::run_rows(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const {
  FusedBand band = band_of_layer();
  band.scratch = buffers.scratch;
  band.channels = static_cast<int32_t>(geometry_.out_channels);
  run_band(buffers, n, first, last - first, &band);
}

}  // namespace bitorch
