#include "core/conv/fused_conv.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/checked.h"
#include "core/base/cpu.h"
#include "core/base/shared_ranges.h"

namespace bitorch {

namespace {

// Parts of joined pixels begin at multiples of this many, and so many at most are handed over at once.
constexpr int64_t kGrain = 32, kMostPixels = int64_t{1} << 20;

// Everything that the kernel's own form of the weights depends on.
Preparation::Key key_of(const ConvSpec& spec, const FusedKernel& kernel, const Layout& input, const Layout* out_codes) {
  const ConvGeometry& g = spec.geometry;
  Preparation::Key key = {g.height,
                          g.width,
                          g.in_channels,
                          g.out_channels,
                          g.kernel_h,
                          g.kernel_w,
                          g.stride_h,
                          g.stride_w,
                          g.pad_top,
                          g.pad_left,
                          g.pad_bottom,
                          g.pad_right,
                          g.dilation_h,
                          g.dilation_w,
                          g.groups,
                          spec.weight_bits,
                          spec.activation_bits,
                          spec.zero_point,
                          spec.sign_activations,
                          static_cast<int64_t>(spec.weight_grid),
                          spec.has_residual,
                          spec.relu,
                          spec.wants_float,
                          spec.code.bits,
                          static_cast<int64_t>(input.kind),
                          spec.pool.kernel_h,
                          spec.pool.kernel_w,
                          spec.pool.stride_h,
                          spec.pool.stride_w,
                          spec.pool.pad_top,
                          spec.pool.pad_left,
                          spec.pool.height,
                          spec.pool.width};
  key.push_back(out_codes == nullptr ? -1 : static_cast<int64_t>(out_codes->kind));
  const void* const addresses[] = {&kernel,
                                   spec.packed_weights,
                                   spec.multiply,
                                   spec.offset,
                                   spec.norm_multiply,
                                   spec.norm_offset,
                                   spec.code.int_thresholds,
                                   spec.code.float_thresholds,
                                   spec.code.descending};
  for (const void* address : addresses) key.push_back(Preparation::address(address));
  return key;
}

// The kernel's own form of the weights; without a layer where they do not suit it.
FusedWeights prepare(const ConvSpec& spec, const FusedKernel& kernel, const Layout& input, const Layout* out_codes,
                     Preparation& preparation) {
  FusedWeights weights;
  Budget& budget = preparation.budget();
  const int64_t count = checked_mul(spec.geometry.out_channels, spec.geometry.inputs_per_output(), "weights");
  // Kernels may read a vector where a row of weights ends.
  uint8_t* const m = preparation.room(checked_add(count, kSlack, "weights"), "a layer's weights");
  budget.work(checked_mul(count, 4, "weights"));
  std::unique_ptr<FusedLayer> layer = make_fused_layer(spec, input, out_codes, preparation, m);
  if (layer == nullptr || kernel.cost(&layer->spec, machine()) < 0) return weights;
  AlignedArray<uint8_t> prepared(budget, kernel.prepared_bytes(&layer->spec), "the weights, prepared for this CPU");
  if (!kernel.prepare(&layer->spec, m, prepared.data())) return weights;
  weights.prepared = preparation.kept(std::move(prepared));
  weights.layer = std::move(layer);
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
  conv->weights_ = preparation.share<FusedWeights>(
      key_of(spec, kernel, input, out_codes), [&] { return prepare(spec, kernel, input, out_codes, preparation); });
  if (conv->weights_->layer == nullptr) return nullptr;
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

// What a byte of another core's cache takes, and one of the weights: a layer's come from behind the second-level cache.
// Nanoseconds, measured on Emerald Rapids.
constexpr double kMovedByte = 0.1, kWeightByte = 0.04;
// What a cache line that two cores write takes, compared with one that one of them wrote and the other reads.
constexpr double kSharedLine = 4;

// What dividing the channels moves between cores: all of them read all of the input, and layers that follow, which are
// divided by rows, read what others wrote. Channels that end within a cache line make it one that several write.
double FusedConv::moved_nanoseconds(int64_t batch, int64_t groups) const {
  const FusedEpilogue& e = weights_->layer->spec.epilogue;
  const int64_t channels = ceil_div(ceil_div(geometry_.out_channels, kFusedChannels), groups) * kFusedChannels;
  const auto written = [&](const Layout& layout, int64_t bytes) {
    const bool whole_lines = bytes % 64 == 0 && layout.pixel_bytes % 64 == 0;
    return static_cast<double>(layout.image_bytes) * (whole_lines ? 1.0 : kSharedLine);
  };
  double bytes = static_cast<double>(input_.image_bytes);
  if (e.wants_float) bytes += written(out_float_, channels * 4);
  if (e.wants_codes) bytes += written(out_codes_, out_codes_.kind == Kind::kPlanes ? channels / 8 : channels);
  const double share = 1.0 - 1.0 / static_cast<double>(groups);
  return bytes * share * static_cast<double>(batch) * kMovedByte;
}

// Who shares `items` pieces, each of so many pixels but the last, of each run of channels, so that the last of them is
// done soon. Pieces are divided first: groups of channels read the same input. Channels are where weights, which each
// worker of a group reads, are more than what moves then, and where there are few pieces.
FusedConv::Parts FusedConv::divided(int64_t batch, const Pieces& pieces, int threads) const {
  const int64_t runs = ceil_div(geometry_.out_channels, kFusedChannels);
  const int64_t limit = workers_for(pieces.nanoseconds, threads);
  const double all = static_cast<double>(pieces.pixels * runs);
  Parts best;
  best.items = pieces.count;
  best.nanoseconds = pieces.nanoseconds;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t groups = 1; groups <= std::min(limit, runs); ++groups) {
    const int64_t each = std::min(limit / groups, pieces.count);
    const int64_t most = std::min(pieces.pixels, ceil_div(pieces.count, each) * pieces.pixels_each);
    const double load = static_cast<double>(most * ceil_div(runs, groups)) / all;
    const double weights = static_cast<double>(weight_bytes()) / static_cast<double>(groups) * kWeightByte;
    const double nanoseconds = pieces.nanoseconds * load + weights + moved_nanoseconds(batch, groups);
    if (nanoseconds >= least) continue;
    least = nanoseconds;
    best.workers = static_cast<int>(each * groups);
    best.groups = groups;
  }
  return best;
}

FusedConv::Parts FusedConv::parts(int64_t batch, int threads) const {
  const FusedSpec& spec = weights_->layer->spec;
  if (!joins_rows_) {
    const int64_t rows = batch * result_rows();
    return divided(batch, {rows, spec.width, rows * spec.width, nanoseconds_ * static_cast<double>(batch)}, threads);
  }
  const int64_t images = joins_images_ ? 1 : batch, pixels = joined_pixels(batch);
  FusedSpec all = spec;
  all.height = 1;
  all.width = static_cast<int32_t>(std::min<int64_t>(pixels, std::numeric_limits<int32_t>::max()));
  const double nanoseconds = kernel_->cost(&all, machine()) * static_cast<double>(images);
  return divided(batch, {images * ceil_div(pixels, kGrain), kGrain, images * pixels, nanoseconds}, threads);
}

// Pixels that are handed over as one row: those of the batch or, where images are not at the distance of pixels, of an
// image.
int64_t FusedConv::joined_pixels(int64_t batch) const {
  const FusedSpec& spec = weights_->layer->spec;
  return (joins_images_ ? batch : 1) * spec.height * spec.width;
}

int64_t FusedConv::scratch_bytes(int64_t batch, int threads) const {
  return checked_mul(part_bytes_, parts(batch, threads).workers, "scratch memory");
}

// The items of the first group of channels come first, then those of the next.
void FusedConv::run(const Conv::Buffers& buffers, int64_t batch, int threads) const {
  const Parts parts = this->parts(batch, threads);
  const int64_t items = parts.groups * parts.items;
  const int64_t runs = ceil_div(geometry_.out_channels, kFusedChannels), pixels = joined_pixels(batch);
  if (joins_rows_) zero_halos(buffers, 0, batch * result_rows());
  parallel_ranges(parts.workers, items, parts.nanoseconds, [&](int worker, int64_t first, int64_t last) {
    FusedBand band = band_of_layer();
    band.scratch = buffers.scratch + worker * part_bytes_;
    for (int64_t item = first, count = 0; item < last; item += count) {
      const int64_t group = item / parts.items, begin = item % parts.items;
      count = std::min(parts.items - begin, last - item);
      const int64_t c0 = runs * group / parts.groups * kFusedChannels;
      const int64_t c1 = std::min(geometry_.out_channels, runs * (group + 1) / parts.groups * kFusedChannels);
      band.first_channel = static_cast<int32_t>(c0);
      band.channels = static_cast<int32_t>(c1 - c0);
      if (joins_rows_) {
        run_grains(buffers, begin, begin + count, pixels, band);
      } else {
        if (group == 0) zero_halos(buffers, begin, begin + count);
        run_rows(buffers, begin, begin + count, band);
      }
    }
  });
}

bool FusedConv::pools() const { return weights_->layer->spec.pool.kernel_h != 0; }
int64_t FusedConv::result_rows() const {
  const FusedSpec& spec = weights_->layer->spec;
  return pools() ? spec.pool.height : spec.height;
}

// All that is the same for every band.
FusedBand FusedConv::band_of_layer() const {
  FusedBand band = {};
  band.prepared = weights_->prepared->data();
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

// Grains first .. last - 1 of the joined pixels, those of the first image first: of each image one row.
void FusedConv::run_grains(const Conv::Buffers& buffers, int64_t first, int64_t last, int64_t pixels,
                           FusedBand band) const {
  band.rows = 1;
  band.pixel_bytes = pixel_step(input_);
  band.codes_pixel = pixel_step(out_codes_);
  band.out_pixel = pixel_step(out_float_);
  band.residual_pixel = pixel_step(residual_);
  const int64_t grains = ceil_div(pixels, kGrain);
  for (int64_t grain = first, count = 0; grain < last; grain += count) {
    const int64_t image = grain / grains, at = grain % grains * kGrain;
    count = std::min({grains - grain % grains, last - grain, kMostPixels / kGrain});
    band.width = static_cast<int32_t>(std::min(count * kGrain, pixels - at));
    point_to(buffers, image, 0, at, &band);
    kernel_->run(&weights_->layer->spec, &band);
  }
}

// Rows first .. last - 1 of the batch, a band for each image.
void FusedConv::run_rows(const Conv::Buffers& buffers, int64_t first, int64_t last, FusedBand band) const {
  const FusedSpec& spec = weights_->layer->spec;
  const int64_t height = result_rows();
  for (int64_t row = first; row < last; row += band.rows) {
    const int64_t y = row % height;
    band.y0 = static_cast<int32_t>(y);
    band.rows = static_cast<int32_t>(std::min(height - y, last - row));
    point_to(buffers, row / height, y, 0, &band);
    kernel_->run(&spec, &band);
  }
}

void FusedConv::run_rows(const Conv::Buffers& buffers, int64_t n, int64_t first, int64_t last) const {
  FusedBand band = band_of_layer();
  band.scratch = buffers.scratch;
  band.channels = static_cast<int32_t>(geometry_.out_channels);
  const int64_t row = n * result_rows();
  run_rows(buffers, row + first, row + last, band);
}

// Of rows first .. last - 1 of the batch.
void FusedConv::zero_halos(const Conv::Buffers& buffers, int64_t first, int64_t last) const {
  const FusedEpilogue& e = weights_->layer->spec.epilogue;
  const int64_t height = result_rows();
  const bool codes = e.wants_codes && out_codes_.has_halo(), floats = e.wants_float && out_float_.has_halo();
  if (!buffers.zeroes_halo || (!codes && !floats)) return;
  for (int64_t row = first; row < last; ++row) {
    const int64_t n = row / height, y = row % height;
    if (codes) zero_halo(out_codes_, buffers.out_codes, n, y, y + 1);
    if (floats) zero_halo(out_float_, buffers.out_float, n, y, y + 1);
  }
}

// Output row y of image n, from pixel x on; x is 0, or steps are those of joined pixels.
void FusedConv::point_to(const Conv::Buffers& buffers, int64_t n, int64_t y, int64_t x, FusedBand* band) const {
  const FusedEpilogue& e = weights_->layer->spec.epilogue;
  const int64_t top = (pools() ? 0 : y * geometry_.stride_h) - geometry_.pad_top;
  band->input = buffers.input + input_.offset(n, top, -geometry_.pad_left) + x * band->pixel_bytes;
  if (e.wants_codes) band->codes = buffers.out_codes + out_codes_.offset(n, y, 0) + x * band->codes_pixel;
  if (e.wants_float) {
    band->out = reinterpret_cast<float*>(buffers.out_float + out_float_.offset(n, y, 0) + x * band->out_pixel);
  }
  if (e.has_residual) {
    const uint8_t* residual = buffers.residual + residual_.offset(n, y, 0) + x * band->residual_pixel;
    band->residual = reinterpret_cast<const float*>(residual);
  }
}

}  // namespace bitorch
