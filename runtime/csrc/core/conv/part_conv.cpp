#include "core/conv/part_conv.h"

#include <algorithm>
#include <cstring>

#include "core/base/checked.h"
#include "core/base/packing.h"

namespace bitorch {

namespace {

constexpr const char* kWhat = "the weights of a part of a convolution";
// Channels of a pixel that sees nothing: weights 1 and -1, or 0 and 0, so that whatever its codes stand for, D is 0.
constexpr int64_t kBlindChannels = 2;

ConvGeometry geometry_of(const ConvGeometry& whole, const ConvPart& part) {
  ConvGeometry g;
  g.out_channels = checked_mul(whole.out_channels, part.joined_columns, "a convolution");
  g.height = part.sees_nothing() ? part.y.outputs : part.y.pixels;
  g.width = part.sees_nothing() ? part.x.outputs : part.x.pixels;
  if (part.sees_nothing()) {
    g.in_channels = kBlindChannels;
    return g;
  }
  g.in_channels = checked_mul(whole.in_channels, static_cast<int64_t>(part.depth_taps.size()), "a convolution");
  g.groups = whole.groups;
  g.kernel_h = static_cast<int64_t>(part.y.taps.size());
  g.kernel_w = part.joined_columns > 1 ? 1 : static_cast<int64_t>(part.x.taps.size());
  g.stride_h = part.y.stride;
  g.stride_w = part.x.stride;
  g.dilation_h = part.y.dilation;
  g.dilation_w = part.x.dilation;
  g.pad_top = part.y.before;
  g.pad_left = part.x.before;
  g.pad_bottom = part.y.after;
  g.pad_right = part.x.after;
  return g;
}

// Numbers of each channel, as often as channels of outputs lie side by side.
template <class T>
const T* repeated(Preparation& preparation, const T* values, int64_t count, int64_t times) {
  if (values == nullptr || times == 1) return values;
  return keep(preparation, values, count, checked_mul(count, times, kWhat))->data();
}

// Copies the weights of output channel `channel` that the part has, in the order of an ordinary convolution over
// channels [groups][slices][C / groups].
template <class T>
void gather(const KernelShape& kernel, const ConvPart& part, int64_t per_group, int64_t column, const T* in, T* out) {
  const bool joined = part.joined_columns > 1;
  const size_t columns = joined ? 1 : part.x.taps.size();
  for (const int64_t y : part.y.taps) {
    for (size_t i = 0; i < columns; ++i) {
      const int64_t x = part.x.taps[joined ? static_cast<size_t>(column) : i];
      for (const int64_t z : part.depth_taps) {
        const T* taps = in + ((z * kernel.height + y) * kernel.width + x) * per_group;
        out = std::copy_n(taps, per_group, out);
      }
    }
  }
}

struct PartWeights {
  AlignedArray<uint8_t> packed;
  AlignedArray<float> floats;
};

PartWeights blind_weights(const ConvSpec& whole, int64_t channels, Budget& budget) {
  PartWeights weights;
  if (whole.weight_bits == 0) {
    weights.floats = AlignedArray<float>(budget, channels * kBlindChannels, kWhat);
    return weights;
  }
  const auto half = static_cast<uint8_t>(1 << (whole.weight_bits - 1));
  const bool odd = whole.weight_grid == WeightGrid::kOdd;
  const uint8_t m[kBlindChannels] = {half, static_cast<uint8_t>(odd ? half - 1 : half)};
  const int64_t bytes = packed_row_bytes(kBlindChannels, whole.weight_bits);
  weights.packed = AlignedArray<uint8_t>(budget, checked_mul(channels, bytes, kWhat), kWhat);
  for (int64_t n = 0; n < channels; ++n) pack_row(m, kBlindChannels, whole.weight_bits, &weights.packed[n * bytes]);
  return weights;
}

PartWeights make_weights(const ConvSpec& whole, const ConvSpec& spec, const KernelShape& kernel, const ConvPart& part,
                         Budget& budget) {
  const int64_t channels = spec.geometry.out_channels, count = spec.geometry.inputs_per_output();
  if (part.sees_nothing()) return blind_weights(whole, channels, budget);
  const int64_t per_group = whole.geometry.in_channels / whole.geometry.groups;
  const int64_t all = kernel.depth * kernel.height * kernel.width * per_group;
  budget.work(checked_mul(channels, checked_add(all, checked_mul(count, 8, kWhat), kWhat), kWhat));
  PartWeights weights;
  if (whole.weight_bits == 0) {
    weights.floats = AlignedArray<float>(budget, checked_mul(channels, count, kWhat), kWhat);
  } else {
    const int64_t bytes = packed_row_bytes(count, whole.weight_bits);
    weights.packed = AlignedArray<uint8_t>(budget, checked_mul(channels, bytes, kWhat), kWhat);
  }
  TemporaryArray<uint8_t> row(budget, all, kWhat), mine(budget, count, kWhat);
  for (int64_t i = 0; i < channels; ++i) {
    const int64_t column = i / whole.geometry.out_channels, n = i % whole.geometry.out_channels;
    if (whole.weight_bits == 0) {
      gather(kernel, part, per_group, column, whole.float_weights + n * all, &weights.floats[i * count]);
      continue;
    }
    unpack_row(whole.packed_weights + n * packed_row_bytes(all, whole.weight_bits), all, whole.weight_bits, row.data());
    gather(kernel, part, per_group, column, row.data(), mine.data());
    pack_row(mine.data(), count, whole.weight_bits, &weights.packed[i * packed_row_bytes(count, whole.weight_bits)]);
  }
  return weights;
}

// All that the weights of a part depend on.
Preparation::Key key_of(const ConvSpec& whole, const KernelShape& kernel, const ConvPart& part) {
  const void* source = whole.weight_bits == 0 ? static_cast<const void*>(whole.float_weights) : whole.packed_weights;
  Preparation::Key key = {Preparation::address(source),
                          whole.weight_bits,
                          static_cast<int64_t>(whole.weight_grid),
                          whole.geometry.in_channels,
                          whole.geometry.out_channels,
                          whole.geometry.groups,
                          kernel.depth,
                          kernel.height,
                          kernel.width,
                          part.joined_columns,
                          part.sees_nothing()};
  if (part.sees_nothing()) return key;
  for (const auto* taps : {&part.depth_taps, &part.y.taps, &part.x.taps}) {
    key.push_back(static_cast<int64_t>(taps->size()));
    key.insert(key.end(), taps->begin(), taps->end());
  }
  return key;
}

}  // namespace

ConvSpec part_spec(const ConvSpec& whole, const ConvPart& part, Preparation& preparation) {
  ConvSpec spec = whole;
  spec.geometry = geometry_of(whole.geometry, part);
  spec.packed_weights = nullptr;
  spec.float_weights = nullptr;
  const int64_t channels = whole.geometry.out_channels, times = part.joined_columns;
  for (const float** numbers : {&spec.multiply, &spec.offset, &spec.norm_multiply, &spec.norm_offset}) {
    *numbers = repeated(preparation, *numbers, channels, times);
  }
  const int64_t thresholds = checked_mul(channels, (1 << spec.code.bits) - 1, kWhat);
  spec.code.int_thresholds = repeated(preparation, spec.code.int_thresholds, thresholds, times);
  spec.code.float_thresholds = repeated(preparation, spec.code.float_thresholds, thresholds, times);
  spec.code.descending = repeated(preparation, spec.code.descending, channels, times);
  return spec;
}

ConvSpec part_spec_with_weights(const ConvSpec& whole, const KernelShape& kernel, const ConvPart& part,
                                Preparation& preparation) {
  ConvSpec spec = part_spec(whole, part, preparation);
  const auto weights = preparation.share<PartWeights>(
      key_of(whole, kernel, part), [&] { return make_weights(whole, spec, kernel, part, preparation.budget()); });
  if (whole.weight_bits == 0) {
    spec.float_weights = weights->floats.data();
  } else {
    spec.packed_weights = weights->packed.data();
  }
  return spec;
}

Layout outputs_of(const Layout& all, const ConvPart& part) {
  Layout layout = all;
  layout.first_byte = all.offset(0, part.y.first_output, part.x.first_output);
  layout.halo = {};
  layout.height = part.y.outputs;
  layout.row_bytes *= part.y.output_step;
  if (part.joined_columns > 1) {
    layout.width = part.x.pixels;
    layout.channels *= part.joined_columns;
    layout.pixel_bytes *= part.joined_columns;
  } else {
    layout.width = part.x.outputs;
    layout.pixel_bytes *= part.x.output_step;
  }
  return layout;
}

Layout pixels_of(const Layout& slice, const ConvPart& part) {
  Layout layout = slice;
  layout.first_byte += part.y.first_pixel * slice.row_bytes + part.x.first_pixel * slice.pixel_bytes;
  layout.height = part.y.pixels;
  layout.width = part.x.pixels;
  return layout;
}

}  // namespace bitorch
