#include "conv.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "checked.h"
#include "conv_state.h"
#include "threads.h"

namespace bitorch {

namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 24;

void check_range(int64_t value, int64_t low, const char* what) {
  if (value < low || value > kMaxDimension) {
    throw Error(std::string("conv2d: ") + what + " is " + std::to_string(value) + ", but must be " + std::to_string(low) +
                " to " + std::to_string(kMaxDimension));
  }
}

int64_t out_size(int64_t size, int64_t pad_a, int64_t pad_b, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t room = size + pad_a + pad_b - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

bool is_linear(const ConvGeometry& g) { return g.out_height() * g.out_width() == 1; }

// Which method a spec gets if its input may have any layout.
Method preferred_method(const ConvSpec& spec, const KernelTable& kernels) {
  if (spec.weight_bits == 0) return is_depthwise(spec.geometry) ? kDepthwiseFloat : kFloat;
  const ConvGeometry& g = spec.geometry;
  if (is_depthwise(g)) return kDepthwise;
  Method method = static_cast<Method>(kernels.method[spec.weight_bits - 1][spec.activation_bits - 1]);
  // One image at a time a linear layer waits for its weights, and bit planes are the smallest form they have.
  if (is_linear(g) && spec.weight_bits * spec.activation_bits <= 8) method = kPopcount;
  if (method == kTables) {
    // Building a pixel's tables pays when they are looked into often: by every kernel tap that reads the pixel, for every
    // vector of output channels. At 4.5 times popcount is faster on Zen 4, 112 to 140 us; at 9 tables are, 228 to 221.
    const double lookups = static_cast<double>(g.kernel_h * g.kernel_w * g.out_channels) /
                           static_cast<double>(g.stride_h * g.stride_w * kernels.table_lanes);
    const bool suits = g.groups == 1 && g.out_channels * 4 >= kernels.table_lanes * 3 && lookups >= 9;
    if (!suits) method = spec.weight_bits * spec.activation_bits <= 4 ? kPopcount : kBytes;
  }
  if (method == kPopcount && g.groups > 1) {
    // A group must start at a byte, and fill a good part of a block.
    const bool suits = g.in_channels / g.groups % 8 == 0 && g.out_channels / g.groups >= kBlock / 2;
    if (!suits) method = kBytes;
  }
  // Half a block leaves each popcount half empty, while its other costs remain.
  if (method == kPopcount && g.out_channels <= kBlock / 2 && spec.weight_bits * spec.activation_bits > 2) method = kBytes;
  return method;
}

Method method_for(const ConvSpec& spec, const KernelTable& kernels, Kind input) {
  const Method method = preferred_method(spec, kernels);
  return method == kPopcount && input == Kind::kBytes ? kBytes : method;
}

void check_spec(const ConvSpec& spec) {
  const ConvGeometry& g = spec.geometry;
  g.check();
  const bool low_bit = spec.weight_bits != 0;
  if (low_bit) {
    if (spec.weight_bits < 1 || spec.weight_bits > 8) throw Error("conv2d: weight_bits must be 1 to 8");
    if (spec.activation_bits < 1 || spec.activation_bits > 8) throw Error("conv2d: activation_bits must be 1 to 8");
    if (spec.sign_activations && spec.activation_bits != 1) throw Error("conv2d: sign_activations need 1-bit activations");
    if (spec.zero_point < 0 || spec.zero_point >= 1 << spec.activation_bits) throw Error("conv2d: zero_point must be a code");
    if (spec.sign_activations && spec.zero_point != 0) throw Error("conv2d: sign_activations have no zero_point");
    const int64_t largest = spec.largest_sum();
    if (largest > std::numeric_limits<int32_t>::max()) {
      throw Error("conv2d: " + std::to_string(g.inputs_per_output()) + " inputs per output with " +
                  std::to_string(spec.weight_bits) + "-bit weights and " + std::to_string(spec.activation_bits) +
                  "-bit activations can sum up to " + std::to_string(largest) +
                  ", more than int32 holds; use fewer bits or split the layer");
    }
  } else if (spec.wants_int || spec.int_thresholds != nullptr || spec.sign_activations || spec.zero_point != 0) {
    throw Error("conv2d_float: its sums are floats; int32 results, int32 thresholds, sign activations and a zero point need a low-bit layer");
  }
  if ((spec.multiply == nullptr) != (spec.offset == nullptr)) throw Error("conv2d: give both multiply and offset, or neither");
  if ((spec.norm_multiply == nullptr) != (spec.norm_offset == nullptr)) {
    throw Error("conv2d: give both norm_multiply and norm_offset, or neither");
  }
  const bool has_float = spec.multiply != nullptr || !low_bit;
  if (!has_float && (spec.wants_float || spec.norm_multiply != nullptr || spec.has_residual || spec.relu || spec.float_thresholds != nullptr ||
                     (spec.out_bits != 0 && spec.int_thresholds == nullptr))) {
    throw Error("conv2d: float32 results, norm_multiply, residual, relu, float thresholds and codes without thresholds need multiply and offset");
  }
  if (spec.out_bits < 0 || spec.out_bits > 8) throw Error("conv2d: bits of the codes must be 1 to 8");
  if (spec.int_thresholds != nullptr && spec.float_thresholds != nullptr) throw Error("conv2d: thresholds are int32 or float32, not both");
  if (!spec.wants_int && !spec.wants_float && spec.out_bits == 0) throw Error("conv2d: no result is asked for");
}

void check_layouts(const ConvGeometry& g, const ConvSpec& spec, const Layout& input, const Layout* const outs[4]) {
  const bool halo_fits = input.halo.top >= g.pad_top && input.halo.left >= g.pad_left && input.halo.bottom >= g.pad_bottom &&
                         input.halo.right >= g.pad_right;
  if (input.height != g.height || input.width != g.width || input.channels != g.in_channels || !halo_fits) {
    throw Error("conv2d: the input's layout does not match the geometry");
  }
  const bool kind_fits = spec.weight_bits == 0 ? input.kind == Kind::kFloat
                                               : (input.kind == Kind::kBytes || input.kind == Kind::kPlanes) &&
                                                     input.bits == spec.activation_bits;
  if (!kind_fits) throw Error("conv2d: the input's layout is of the wrong kind");
  const bool wanted[4] = {spec.wants_int, spec.wants_float, spec.out_bits != 0, spec.has_residual};
  for (int i = 0; i < 4; ++i) {
    if (wanted[i] != (outs[i] != nullptr)) throw Error("conv2d: results and layouts do not match");
    if (outs[i] != nullptr && (outs[i]->height != g.out_height() || outs[i]->width != g.out_width() ||
                               outs[i]->channels != g.out_channels)) {
      throw Error("conv2d: a result's layout does not match the geometry");
    }
  }
}

// The kernel taps of one axis that fall on real pixels: a class per distinct range of taps.
struct TapClasses {
  std::vector<int32_t> of;                          // [out size]
  std::vector<std::pair<int64_t, int64_t>> ranges;  // [classes] first and past-the-last tap
};

TapClasses tap_classes(int64_t size, int64_t out, int64_t pad, int64_t kernel, int64_t stride, int64_t dilation) {
  TapClasses classes;
  for (int64_t o = 0; o < out; ++o) {
    const int64_t start = o * stride - pad;
    const int64_t first = start >= 0 ? 0 : std::min(kernel, ceil_div(-start, dilation));
    const int64_t last = start >= size ? 0 : std::min(kernel, (size - 1 - start) / dilation + 1);
    const std::pair<int64_t, int64_t> range{first, std::max(first, last)};
    // Both ends fall as o grows, so equal ranges are neighbours.
    if (classes.ranges.empty() || classes.ranges.back() != range) classes.ranges.push_back(range);
    classes.of.push_back(static_cast<int32_t>(classes.ranges.size()) - 1);
  }
  return classes;
}

// border[row class][column class][block][kBlock]: minus `times` the sum of the weight codes on real pixels.
void make_border(const ConvSpec& spec, int64_t times, const uint8_t* negate, ConvState* state) {
  const ConvGeometry& g = spec.geometry;
  const TapClasses rows = tap_classes(g.height, g.out_height(), g.pad_top, g.kernel_h, g.stride_h, g.dilation_h);
  const TapClasses columns = tap_classes(g.width, g.out_width(), g.pad_left, g.kernel_w, g.stride_w, g.dilation_w);
  state->row_class = rows.of;
  state->column_class = columns.of;
  state->column_classes = static_cast<int64_t>(columns.ranges.size());
  const int64_t blocks = static_cast<int64_t>(state->weights.blocks.size());
  const int64_t classes = checked_mul(static_cast<int64_t>(rows.ranges.size()), state->column_classes, "conv2d");
  const int64_t entries = checked_mul(classes, blocks * kBlock, "conv2d");
  spec.spend(checked_mul(entries, 4, "conv2d"));
  state->border = AlignedArray<int32_t>(entries);
  const int64_t per_group = g.in_channels / g.groups;
  const int step = spec.code_step(), lowest = spec.lowest_code();
  // corner[ky][kx]: the sum over the taps above and left of (ky, kx), so that any rectangle of taps is four of them.
  const int64_t stride = g.kernel_w + 1;
  WeightRows weights(spec, negate);
  std::vector<int64_t> corner(static_cast<size_t>((g.kernel_h + 1) * stride));
  for (int64_t b = 0; b < blocks; ++b) {
    for (int32_t c = 0; c < state->weights.blocks[b].channels; ++c) {
      const uint8_t* m = weights.codes(state->weights.blocks[b].first_channel + c);
      for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
        int64_t row = 0;
        for (int64_t kx = 0; kx < g.kernel_w; ++kx) {
          for (int64_t k = 0; k < per_group; ++k) row += step * *m++ + lowest;
          corner[(ky + 1) * stride + kx + 1] = corner[ky * stride + kx + 1] + row;
        }
      }
      for (size_t r = 0; r < rows.ranges.size(); ++r) {
        const int64_t top = rows.ranges[r].first * stride, bottom = rows.ranges[r].second * stride;
        for (size_t q = 0; q < columns.ranges.size(); ++q) {
          const auto [left, right] = columns.ranges[q];
          const int64_t sum = corner[bottom + right] - corner[bottom + left] - corner[top + right] + corner[top + left];
          const int64_t klass = static_cast<int64_t>(r) * state->column_classes + static_cast<int64_t>(q);
          state->border[(klass * blocks + b) * kBlock + c] = static_cast<int32_t>(-times * sum);
        }
      }
    }
  }
}

// Per-channel numbers in the order of the blocks: [blocks][kBlock].
AlignedArray<float> by_block(const float* values, float absent, float sign_flip(float, bool), const uint8_t* negate,
                             const std::vector<ConvBlock>& blocks) {
  AlignedArray<float> out(static_cast<int64_t>(blocks.size()) * kBlock);
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (int32_t c = 0; c < blocks[b].channels; ++c) {
      const int64_t channel = blocks[b].first_channel + c;
      const float value = values == nullptr ? absent : values[channel];
      out[static_cast<int64_t>(b) * kBlock + c] = sign_flip(value, negate != nullptr && negate[channel] != 0);
    }
  }
  return out;
}

float keep(float x, bool) { return x; }
float flip(float x, bool negate) { return negate ? -x : x; }

PixelFormat pixel_format(const Layout& input, Method method, const KernelTable& kernels) {
  const int64_t columns = input.width + input.halo.left + input.halo.right;
  switch (method) {
    case kWords:
      return {2 * input.channels, columns * 2 * input.channels, 16, 0};
    case kTables: {
      const int64_t pixel = checked_mul(kernels.table_bytes, ceil_div(input.channels, kernels.table_channels), "conv2d");
      return {pixel, checked_mul(columns, pixel, "conv2d"), 0, kernels.table_bytes};
    }
    case kPopcount:
      return {input.pixel_bytes, input.row_bytes, 1, 0};
    case kFloat:
    case kDepthwiseFloat:
      return {input.pixel_bytes, input.row_bytes, 32, 0};
    default:
      return {input.pixel_bytes, input.row_bytes, 8, 0};
  }
}

}  // namespace

void ConvGeometry::check() const {
  check_range(height, 1, "the input's height");
  check_range(width, 1, "the input's width");
  check_range(in_channels, 1, "the number of input channels");
  check_range(out_channels, 1, "the number of output channels");
  check_range(kernel_h, 1, "kernel height");
  check_range(kernel_w, 1, "kernel width");
  check_range(stride_h, 1, "stride");
  check_range(stride_w, 1, "stride");
  check_range(pad_top, 0, "padding");
  check_range(pad_left, 0, "padding");
  check_range(pad_bottom, 0, "padding");
  check_range(pad_right, 0, "padding");
  check_range(dilation_h, 1, "dilation");
  check_range(dilation_w, 1, "dilation");
  check_range(groups, 1, "groups");
  if (in_channels % groups != 0 || out_channels % groups != 0) {
    throw Error("conv2d: groups = " + std::to_string(groups) + " must divide the input channels (" +
                std::to_string(in_channels) + ") and the output channels (" + std::to_string(out_channels) + ")");
  }
  checked_mul(checked_mul(kernel_h, kernel_w, "conv2d"), in_channels, "conv2d");
  if (out_height() < 1 || out_width() < 1) {
    throw Error("conv2d: a kernel of " + std::to_string(kernel_h) + "x" + std::to_string(kernel_w) +
                " with this dilation does not fit into the padded input of " +
                std::to_string(height + pad_top + pad_bottom) + "x" + std::to_string(width + pad_left + pad_right));
  }
}

int64_t ConvGeometry::out_height() const { return out_size(height, pad_top, pad_bottom, kernel_h, stride_h, dilation_h); }
int64_t ConvGeometry::out_width() const { return out_size(width, pad_left, pad_right, kernel_w, stride_w, dilation_w); }
void ConvSpec::spend(int64_t bytes) const {
  if (bytes_left == nullptr) return;
  if (bytes > *bytes_left) {
    throw Error("the weights, prepared for this CPU, take " + std::to_string(bytes) + " bytes, and of the limit only " +
                std::to_string(*bytes_left) + " are left; raise the limit if you trust where the program comes from");
  }
  *bytes_left -= bytes;
}

int64_t ConvGeometry::inputs_per_output() const { return kernel_h * kernel_w * (in_channels / groups); }

int64_t ConvSpec::largest_sum() const {
  return checked_mul(geometry.inputs_per_output(), -int64_t{lowest_code()} * ((1 << activation_bits) - 1), "conv2d");
}

Kind preferred_input(const ConvSpec& spec, const KernelTable& kernels) {
  const Method method = preferred_method(spec, kernels);
  if (spec.weight_bits == 0) return Kind::kFloat;
  return method == kPopcount || method == kTables ? Kind::kPlanes : Kind::kBytes;
}

bool can_write_planes(const ConvSpec& spec) {
  const ConvGeometry& g = spec.geometry;
  if (g.groups == 1 || is_depthwise(g)) return true;
  // Whether groups are merged depends on the method; both ways must start every block at a byte.
  return g.out_channels / g.groups % 8 == 0;
}

Conv::Conv(const ConvSpec& spec, const KernelTable& kernels, const Layout& input, const Layout* out_int,
           const Layout* out_float, const Layout* out_codes, const Layout* residual)
    : state_(std::make_unique<State>()) {
  check_spec(spec);
  const ConvGeometry& g = spec.geometry;
  const Layout* const outs[4] = {out_int, out_float, out_codes, residual};
  check_layouts(g, spec, input, outs);
  State& s = *state_;
  s.kernels = &kernels;
  s.geometry = g;
  s.out_height = g.out_height();
  s.out_width = g.out_width();
  s.input = input;
  if (out_int != nullptr) s.out_int = *out_int;
  if (out_float != nullptr) s.out_float = *out_float;
  if (out_codes != nullptr) s.out_codes = *out_codes;
  if (residual != nullptr) s.residual = *residual;
  s.wants_int = spec.wants_int;
  s.wants_float = spec.wants_float;
  s.wants_codes = spec.out_bits != 0;
  s.has_residual = spec.has_residual;
  s.relu = spec.relu;
  s.weight_bits = spec.weight_bits;
  s.activation_bits = spec.activation_bits;
  s.method = method_for(spec, kernels, input.kind);
  if (input.kind == Kind::kPlanes && s.method != kPopcount && s.method != kTables) {
    throw Error("conv2d: this layer cannot read bit planes");
  }
  s.codes_from_int = spec.int_thresholds != nullptr;
  s.has_float = spec.multiply != nullptr || spec.norm_multiply != nullptr || spec.has_residual || spec.relu;
  s.format = pixel_format(input, s.method, kernels);

  // Codes that fall with D: their weights change sign, so that every threshold rises. Not where D itself leaves as well, and
  // not on the signed grid, which has no -c for its lowest c: there the kernels change the sign of D.
  const bool symmetric = spec.weight_grid == WeightGrid::kOdd;
  const uint8_t* negate = s.codes_from_int && !s.wants_int && symmetric ? spec.descending : nullptr;
  s.weights = tile_weights(spec, s.method, kernels, s.format, negate);
  if (s.method == kTables) s.blocks_per_call = kernels.table_block / kBlock;
  std::vector<BlockRange> ranges;
  for (const ConvBlock& block : s.weights.blocks) ranges.push_back({block.first_channel, block.channels});

  // D = (accumulator << shift) + scale * window sum + border
  if (s.method == kPopcount || s.method == kTables) {  // the accumulator sums m * q
    s.shift = spec.code_step() - 1;
    s.sum_scale = spec.lowest_code();
  } else if (halves_codes(spec, s.method)) {
    s.shift = 1;
    s.sum_scale = 1;
  }
  if (spec.sign_activations) {
    s.shift += 1;
    s.sum_scale *= 2;
    make_border(spec, 1, negate, &s);
  } else if (spec.zero_point != 0) {
    make_border(spec, spec.zero_point, negate, &s);
  }
  if (s.has_float) {
    s.multiply = by_block(spec.multiply, 1.0f, flip, negate, s.weights.blocks);
    s.offset = by_block(spec.offset, -0.0f, keep, nullptr, s.weights.blocks);  // x + -0 is x, for -0 too
  }
  if (spec.norm_multiply != nullptr) {
    s.norm_multiply = by_block(spec.norm_multiply, 1.0f, keep, nullptr, s.weights.blocks);
    s.norm_offset = by_block(spec.norm_offset, -0.0f, keep, nullptr, s.weights.blocks);
  }
  if (spec.out_bits != 0) {
    if (spec.int_thresholds != nullptr) {
      const auto reach = static_cast<int32_t>(spec.largest_sum());
      s.rule = CodeRule(spec.int_thresholds, spec.descending, reach, spec.out_bits, negate != nullptr, ranges);
    } else if (spec.float_thresholds != nullptr) {
      s.rule = CodeRule(spec.float_thresholds, spec.descending, spec.out_bits, ranges);
    } else {
      s.rule = CodeRule(spec.out_bits, ranges);
    }
  }
  s.plan_scratch();
}

Conv::~Conv() = default;
Conv::Conv(Conv&&) noexcept = default;

int64_t Conv::scratch_bytes(int64_t batch, int threads) const {
  return checked_mul(state_->part_bytes, state_->parts(batch, threads).count(), "scratch memory");
}

void Conv::run(const Buffers& buffers, int64_t batch, int threads) const {
  const State& s = *state_;
  if (batch == 0) return;
  const ConvParts parts = s.parts(batch, threads);
  parallel_for(parts.count(), [&](int part) {
    s.run_part(buffers, batch, parts, part, buffers.scratch + part * s.part_bytes);
  });
}

const char* Conv::kernel_name() const { return state_->kernels->dot_name[state_->method]; }
int64_t Conv::macs() const {
  const ConvGeometry& g = state_->geometry;
  return g.out_height() * g.out_width() * g.out_channels * g.inputs_per_output();
}
int64_t Conv::weight_bytes() const { return state_->weights.data.size(); }

}  // namespace bitorch
