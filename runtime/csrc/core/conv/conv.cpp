#include "core/conv/conv.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "core/base/checked.h"
#include "core/base/threads.h"
#include "core/conv/conv_choice.h"
#include "core/conv/conv_state.h"
#include "core/conv/fused_conv.h"

namespace bitorch {

namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 24;

void check_range(int64_t value, int64_t low, const char* what) {
  if (value < low || value > kMaxDimension) {
    throw Error(std::string("conv2d: ") + what + " is " + std::to_string(value) + ", but must be " +
                std::to_string(low) + " to " + std::to_string(kMaxDimension));
  }
}

int64_t out_size(int64_t size, int64_t pad_a, int64_t pad_b, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t room = size + pad_a + pad_b - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

void check_spec(const ConvSpec& spec) {
  const ConvGeometry& g = spec.geometry;
  g.check();
  const bool low_bit = spec.weight_bits != 0;
  if (low_bit) {
    if (spec.weight_bits < 1 || spec.weight_bits > 8) throw Error("conv2d: weight_bits must be 1 to 8");
    if (spec.activation_bits < 1 || spec.activation_bits > 8) throw Error("conv2d: activation_bits must be 1 to 8");
    if (spec.sign_activations && spec.activation_bits != 1)
      throw Error("conv2d: sign_activations need 1-bit activations");
    if (spec.zero_point < 0 || spec.zero_point >= 1 << spec.activation_bits)
      throw Error("conv2d: zero_point must be a code");
    if (spec.sign_activations && spec.zero_point != 0) throw Error("conv2d: sign_activations have no zero_point");
    const int64_t largest = spec.largest_sum();
    if (largest > std::numeric_limits<int32_t>::max()) {
      throw Error("conv2d: " + std::to_string(g.inputs_per_output()) + " inputs per output with " +
                  std::to_string(spec.weight_bits) + "-bit weights and " + std::to_string(spec.activation_bits) +
                  "-bit activations can sum up to " + std::to_string(largest) +
                  ", more than int32 holds; use fewer bits or split the layer");
    }
  } else if (spec.wants_int || spec.code.int_thresholds != nullptr || spec.sign_activations || spec.zero_point != 0) {
    throw Error(
        "conv2d_float: its sums are floats; int32 results, int32 thresholds, sign activations and a zero point need a "
        "low-bit layer");
  }
  if ((spec.multiply == nullptr) != (spec.offset == nullptr))
    throw Error("conv2d: give both multiply and offset, or neither");
  if ((spec.norm_multiply == nullptr) != (spec.norm_offset == nullptr)) {
    throw Error("conv2d: give both norm_multiply and norm_offset, or neither");
  }
  const bool has_float = spec.multiply != nullptr || !low_bit;
  if (!has_float &&
      (spec.wants_float || spec.norm_multiply != nullptr || spec.has_residual || spec.relu ||
       spec.code.float_thresholds != nullptr || (spec.code.bits != 0 && spec.code.int_thresholds == nullptr))) {
    throw Error(
        "conv2d: float32 results, norm_multiply, residual, relu, float thresholds and codes without thresholds need "
        "multiply and offset");
  }
  if (spec.code.bits < 0 || spec.code.bits > 8) throw Error("conv2d: bits of the codes must be 1 to 8");
  if (spec.code.int_thresholds != nullptr && spec.code.float_thresholds != nullptr)
    throw Error("conv2d: thresholds are int32 or float32, not both");
  if (!spec.wants_int && !spec.wants_float && spec.code.bits == 0) throw Error("conv2d: no result is asked for");
}

void check_layouts(const ConvGeometry& g, const ConvSpec& spec, const Layout& input, const Layout* const outs[4]) {
  const bool halo_fits = input.halo.top >= g.pad_top && input.halo.left >= g.pad_left &&
                         input.halo.bottom >= g.pad_bottom && input.halo.right >= g.pad_right;
  if (input.height != g.height || input.width != g.width || input.channels != g.in_channels || !halo_fits) {
    throw Error("conv2d: the input's layout does not match the geometry");
  }
  const bool kind_fits = spec.weight_bits == 0 ? input.kind == Kind::kFloat
                                               : (input.kind == Kind::kBytes || input.kind == Kind::kPlanes) &&
                                                     input.bits == spec.activation_bits;
  if (!kind_fits) throw Error("conv2d: the input's layout is of the wrong kind");
  const bool wanted[4] = {spec.wants_int, spec.wants_float, spec.code.bits != 0, spec.has_residual};
  for (int i = 0; i < 4; ++i) {
    if (wanted[i] != (outs[i] != nullptr)) throw Error("conv2d: results and layouts do not match");
    if (outs[i] != nullptr && (outs[i]->height != spec.result_height() || outs[i]->width != spec.result_width() ||
                               outs[i]->channels != g.out_channels)) {
      throw Error("conv2d: a result's layout does not match the geometry");
    }
  }
}

// Per-channel numbers in the order of the blocks: [blocks][kBlock].
AlignedArray<float> by_block(Budget& budget, const float* values, float absent, float sign_flip(float, bool),
                             const uint8_t* negate, const AlignedArray<ConvBlock>& blocks) {
  AlignedArray<float> out(budget, blocks.size() * kBlock, "numbers per channel");
  for (int64_t b = 0; b < blocks.size(); ++b) {
    for (int32_t c = 0; c < blocks[b].channels; ++c) {
      const int64_t channel = blocks[b].first_channel + c;
      const float value = values == nullptr ? absent : values[channel];
      out[b * kBlock + c] = sign_flip(value, negate != nullptr && negate[channel] != 0);
    }
  }
  return out;
}

float as_it_is(float x, bool) { return x; }
float flip(float x, bool negate) { return negate ? -x : x; }

PixelFormat pixel_format(const Layout& input, Method method, const KernelTable& kernels) {
  const int64_t columns = input.width + input.halo.left + input.halo.right;
  switch (method) {
    case kWords:
      return {2 * input.channels, columns * 2 * input.channels, 16, 0};
    case kTables: {
      const int64_t pixel =
          checked_mul(kernels.table_bytes, ceil_div(input.channels, kernels.table_channels), "conv2d");
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

int64_t ConvGeometry::out_height() const {
  return out_size(height, pad_top, pad_bottom, kernel_h, stride_h, dilation_h);
}
int64_t ConvGeometry::out_width() const { return out_size(width, pad_left, pad_right, kernel_w, stride_w, dilation_w); }
int64_t ConvGeometry::inputs_per_output() const { return kernel_h * kernel_w * (in_channels / groups); }

int64_t ConvSpec::largest_sum() const {
  return checked_mul(geometry.inputs_per_output(), -int64_t{lowest_code()} * ((1 << activation_bits) - 1), "conv2d");
}

bool can_write_planes(const ConvSpec& spec) {
  const ConvGeometry& g = spec.geometry;
  if (g.groups == 1 || is_depthwise(g)) return true;
  // Whether groups are merged depends on the method; both ways must start every block at a byte.
  return g.out_channels / g.groups % 8 == 0;
}

namespace {

std::vector<BlockRange> ranges_of(const AlignedArray<ConvBlock>& blocks) {
  std::vector<BlockRange> ranges;
  for (const ConvBlock& block : blocks) ranges.push_back({block.first_channel, block.channels});
  return ranges;
}

// Layers with the same weights on images of the same size share it.
std::shared_ptr<const ConvBorder> border_of(const ConvSpec& spec, int64_t times, const uint8_t* negate,
                                            const ConvWeights& weights, Preparation& preparation) {
  const ConvGeometry& g = spec.geometry;
  const auto key = {Preparation::address(&weights),
                    times,
                    g.height,
                    g.width,
                    g.pad_top,
                    g.pad_left,
                    g.pad_bottom,
                    g.pad_right,
                    g.stride_h,
                    g.stride_w,
                    g.dilation_h,
                    g.dilation_w};
  return preparation.share<ConvBorder>(
      key, [&] { return make_border(spec, times, negate, ranges_of(weights.blocks), preparation.budget()); });
}

// Layers with the same weights and thresholds share it.
std::shared_ptr<const CodeRule> code_rule(const ConvSpec& spec, bool negates_weights, const ConvWeights& weights,
                                          Preparation& preparation) {
  const bool from_int = spec.code.int_thresholds != nullptr;
  const void* thresholds = from_int ? static_cast<const void*>(spec.code.int_thresholds) : spec.code.float_thresholds;
  const auto key = {
      Preparation::address(&weights), Preparation::address(thresholds), Preparation::address(spec.code.descending),
      int64_t{spec.activation_bits},  int64_t{spec.code.bits},          int64_t{from_int},
      int64_t{negates_weights}};
  return preparation.share<CodeRule>(key, [&] {
    Budget& budget = preparation.budget();
    const std::vector<BlockRange> ranges = ranges_of(weights.blocks);
    if (from_int) {
      const auto reach = static_cast<int32_t>(largest_result(spec, budget));
      return CodeRule(budget, spec.code.int_thresholds, spec.code.descending, reach, spec.code.bits, negates_weights,
                      ranges);
    }
    if (spec.code.float_thresholds != nullptr)
      return CodeRule(budget, spec.code.float_thresholds, spec.code.descending, spec.code.bits, ranges);
    return CodeRule(budget, spec.code.bits, ranges);
  });
}

// What follows from the spec and the layouts alone.
void describe(const ConvSpec& spec, const KernelTable& kernels, const Layout& input, const Layout* const outs[4],
              ConvState* s) {
  s->kernels = &kernels;
  s->geometry = spec.geometry;
  s->out_height = spec.geometry.out_height();
  s->out_width = spec.geometry.out_width();
  s->input = input;
  Layout* const layouts[4] = {&s->out_int, &s->out_float, &s->out_codes, &s->residual};
  for (int i = 0; i < 4; ++i) {
    if (outs[i] != nullptr) *layouts[i] = *outs[i];
  }
  s->wants_int = spec.wants_int;
  s->wants_float = spec.wants_float;
  s->wants_codes = spec.code.bits != 0;
  s->has_residual = spec.has_residual;
  s->relu = spec.relu;
  s->weight_bits = spec.weight_bits;
  s->activation_bits = spec.activation_bits;
  s->method = staged_method(spec, kernels, input.kind);
  if (input.kind == Kind::kPlanes && s->method != kPopcount && s->method != kTables) {
    throw Error("conv2d: this layer cannot read bit planes");
  }
  s->codes_from_int = spec.code.int_thresholds != nullptr;
  s->has_float = spec.multiply != nullptr || spec.norm_multiply != nullptr || spec.has_residual || spec.relu;
  s->format = pixel_format(input, s->method, kernels);
  if (s->method == kTables) s->blocks_per_call = kernels.table_block / kBlock;
}

// D = (accumulator << shift) + sum_scale * window sum + border.
//
// popcount and tables sum m * q, and with c = step * m + lowest that is D = step * (sum of m * q) + lowest * (sum of
// q): a sum over the window's codes, the same for every output channel, makes up for the m. bytes with halved codes sum
// (c - 1) / 2 * q, hence D = 2 * sum + 1 * (sum of q). Codes q of sign activations mean 2q - 1, those with a zero point
// q - z, and padding, whose codes are 0, means 0: D changes by a multiple of the sum of the weights on real pixels,
// which only the border's classes of pixels tell apart.
void plan_correction(const ConvSpec& spec, const uint8_t* negate, Preparation& preparation, ConvState* s) {
  if (s->method == kPopcount || s->method == kTables) {
    s->shift = spec.code_step() - 1;
    s->sum_scale = spec.lowest_code();
  } else if (halves_codes(spec, s->method)) {
    s->shift = 1;
    s->sum_scale = 1;
  }
  if (spec.sign_activations) {
    s->shift += 1;
    s->sum_scale *= 2;
    s->border = border_of(spec, 1, negate, *s->weights, preparation);
  } else if (spec.zero_point != 0) {
    s->border = border_of(spec, spec.zero_point, negate, *s->weights, preparation);
  }
}

void keep_numbers(const ConvSpec& spec, const uint8_t* negate, Budget& budget, ConvState* s) {
  const AlignedArray<ConvBlock>& blocks = s->weights->blocks;
  if (s->has_float) {
    s->multiply = by_block(budget, spec.multiply, 1.0f, flip, negate, blocks);
    s->offset = by_block(budget, spec.offset, -0.0f, as_it_is, nullptr, blocks);  // x + -0 is x, for -0 too
  }
  if (spec.norm_multiply != nullptr) {
    s->norm_multiply = by_block(budget, spec.norm_multiply, 1.0f, as_it_is, nullptr, blocks);
    s->norm_offset = by_block(budget, spec.norm_offset, -0.0f, as_it_is, nullptr, blocks);
  }
}

}  // namespace

namespace {

void make_staged(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation, const Layout& input,
                 const Layout* const outs[4], ConvState* s) {
  describe(spec, kernels, input, outs, s);
  // Where weights cannot change sign, the kernels change that of D.
  const uint8_t* negate = negated_channels(spec);
  PreparedWeights prepared = prepare_weights(spec, s->method, kernels, s->format, negate, preparation);
  s->weights = std::move(prepared.weights);
  s->steps = std::move(prepared.steps);
  plan_correction(spec, negate, preparation, s);
  keep_numbers(spec, negate, preparation.budget(), s);
  if (spec.code.bits != 0) s->rule = code_rule(spec, negate != nullptr, *s->weights, preparation);
  s->plan_scratch();
}

}  // namespace

Conv::Conv(const ConvGeometry& geometry) : geometry_(geometry) {}

Conv::Conv(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation, const Layout& input,
           const Layout* out_int, const Layout* out_float, const Layout* out_codes, const Layout* residual,
           const KernelWish& wish)
    : geometry_(spec.geometry) {
  const Layout* const outs[4] = {out_int, out_float, out_codes, residual};
  if (take_kernel(spec, kernels, preparation, input, outs, wish)) return;
  throw Error("conv2d: no kernel that may be used serves this layer");
}

std::unique_ptr<Conv> Conv::make(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation,
                                 const Layout& input, const Layout* out_int, const Layout* out_float,
                                 const Layout* out_codes, const Layout* residual, const KernelWish& wish) {
  const Layout* const outs[4] = {out_int, out_float, out_codes, residual};
  std::unique_ptr<Conv> conv(new Conv(spec.geometry));
  return conv->take_kernel(spec, kernels, preparation, input, outs, wish) ? std::move(conv) : nullptr;
}

// The cheapest one that the numbers suit; false: there is none.
bool Conv::take_kernel(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation, const Layout& input,
                       const Layout* const outs[4], const KernelWish& wish) {
  check_spec(spec);
  check_layouts(spec.geometry, spec, input, outs);
  const bool planes = outs[2] != nullptr && outs[2]->kind == Kind::kPlanes;
  const auto choices = kernel_choices(spec, kernels, input.kind, planes, wish, preparation.tuning());
  for (const KernelChoice& choice : choices) choices_.push_back({choice.name, choice.nanoseconds, choice.measured});
  for (const KernelChoice& choice : choices) {
    if (choice.fused == nullptr) {
      state_ = std::make_unique<State>();
      make_staged(spec, kernels, preparation, input, outs, state_.get());
      return true;
    }
    fused_ = FusedConv::make(spec, *choice.fused, preparation, input, outs[1], outs[2], outs[3]);
    if (fused_ != nullptr) return true;
  }
  return false;
}

Conv::~Conv() = default;
Conv::Conv(Conv&&) noexcept = default;

int64_t Conv::scratch_bytes(int64_t batch, int threads) const {
  if (fused_ != nullptr) return fused_->scratch_bytes(batch, threads);
  return checked_mul(state_->part_bytes, state_->parts(batch, threads).workers, "scratch memory");
}

void Conv::run(const Buffers& buffers, int64_t batch, int threads) const {
  if (batch == 0) return;
  if (fused_ != nullptr) return fused_->run(buffers, batch, threads);
  state_->run(buffers, batch, threads);
}

void Conv::run_rows(const Buffers& buffers, int64_t n, int64_t first, int64_t last) const {
  if (fused_ != nullptr) return fused_->run_rows(buffers, n, first, last);
  state_->run_rows(buffers, n, first, last);
}

int64_t Conv::rows_scratch() const { return fused_ != nullptr ? fused_->rows_scratch() : state_->part_bytes; }
double Conv::nanoseconds() const {
  return fused_ != nullptr ? fused_->nanoseconds() : state_->nanoseconds(state_->out_pixels());
}

const char* Conv::kernel_name() const {
  return fused_ != nullptr ? fused_->kernel().name : state_->kernels->dot_name[state_->method];
}
int64_t Conv::macs() const {
  return geometry_.out_height() * geometry_.out_width() * geometry_.out_channels * geometry_.inputs_per_output();
}
int64_t Conv::weight_bytes() const {
  return fused_ != nullptr ? fused_->weight_bytes() : state_->weights->data->size();
}

}  // namespace bitorch
