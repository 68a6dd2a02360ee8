#include "core/conv/fused_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/base/checked.h"
#include "core/conv/border.h"
#include "core/conv/conv_weights.h"
#include "core/conv/thresholds.h"

namespace bitorch {

namespace {

// With so many thresholds kernels search among them even where there is a line.
constexpr int kSearchBits = 4;

int64_t padded_channels(const ConvSpec& spec) { return round_up(spec.geometry.out_channels, kFusedChannels); }

// Blocks of kBlock channels that fill up the padded ones; those behind the last channel are empty.
std::vector<BlockRange> padded_blocks(const ConvSpec& spec) {
  std::vector<BlockRange> blocks = plain_blocks(spec.geometry.out_channels);
  while (static_cast<int64_t>(blocks.size()) * kBlock < padded_channels(spec)) {
    blocks.push_back({spec.geometry.out_channels, 0});
  }
  return blocks;
}

// Multiplies weight codes and D of activations that are signs.
int sign_factor(const ConvSpec& spec) { return spec.sign_activations ? 2 : 1; }

// Whether all thresholds rise, or weights that change their sign make them rise. A pool takes D of one sign for its
// largest y. Known before layouts are chosen, as a layer whose input is bit planes may have no other kernel.
bool thresholds_can_rise(const ConvSpec& spec) {
  const uint8_t* falls = spec.code.descending;
  const int64_t channels = spec.geometry.out_channels;
  if (falls == nullptr || std::none_of(falls, falls + channels, [](uint8_t f) { return f != 0; })) return true;
  return negated_channels(spec) != nullptr && !(spec.pool && spec.multiply != nullptr);
}

// Whether y falls with D.
bool falls_with_sum(const ConvSpec& spec, int64_t c) {
  if (spec.multiply == nullptr) return false;
  return (spec.multiply[c] < 0) != (spec.norm_multiply != nullptr && spec.norm_multiply[c] < 0);
}

// An offset of the second stage below this might leave a y so small that it becomes -0.
constexpr float kLeastNormOffset = 0x1p-100f;

// Whether y rises or falls with D and is never -0, of which a maximum may give either: D * multiply + offset is no -0
// unless the offset is.
bool is_monotonic(const ConvSpec& spec, int64_t c) {
  const float m = spec.multiply[c], o = spec.offset[c];
  if (!std::isfinite(m) || !std::isfinite(o) || (o == 0 && std::signbit(o))) return false;
  if (spec.norm_multiply == nullptr) return true;
  const float nm = spec.norm_multiply[c], no = spec.norm_offset[c];
  return std::isfinite(nm) && std::isfinite(no) && nm != 0 && std::fabs(no) >= kLeastNormOffset;
}

// Whether the pool's result is that of one D of each window, in every channel.
bool can_pool(const ConvSpec& spec) {
  const ConvPool& pool = spec.pool;
  if (!pool) return true;
  const ConvGeometry& g = spec.geometry;
  const bool windows_are_real = pool.pad_top < pool.kernel_h && pool.pad_left < pool.kernel_w &&
                                (pool.height - 1) * pool.stride_h - pool.pad_top < g.out_height() &&
                                (pool.width - 1) * pool.stride_w - pool.pad_left < g.out_width();
  if (!windows_are_real || spec.has_residual) return false;
  for (int64_t c = 0; spec.multiply != nullptr && c < g.out_channels; ++c) {
    if (!is_monotonic(spec, c) || (spec.code.int_thresholds != nullptr && falls_with_sum(spec, c))) return false;
  }
  return true;
}

void keep_pool(const ConvSpec& spec, Budget& budget, FusedLayer* layer) {
  const int64_t channels = spec.geometry.out_channels;
  bool any = false;
  for (int64_t c = 0; spec.pool && c < channels; ++c) any = any || falls_with_sum(spec, c);
  if (!any) return;
  layer->falls = AlignedArray<int32_t>(budget, padded_channels(spec), "which channels fall");
  for (int64_t c = 0; c < channels; ++c) layer->falls[c] = falls_with_sum(spec, c) ? -1 : 0;
  layer->spec.pool.falls = layer->falls.data();
}

// Which weights change their sign.
void find_negations(const ConvSpec& spec, Budget& budget, FusedLayer* layer) {
  const uint8_t* falls = negated_channels(spec);
  const int64_t channels = spec.geometry.out_channels;
  if (falls == nullptr || std::none_of(falls, falls + channels, [](uint8_t f) { return f != 0; })) return;
  layer->negate = AlignedArray<uint8_t>(budget, channels, "signs of weights");
  std::copy_n(falls, channels, layer->negate.data());
}

const uint8_t* negated(const FusedLayer& layer) { return layer.negate.size() == 0 ? nullptr : layer.negate.data(); }

// m of every weight after the changes of sign.
void write_weights(const ConvSpec& spec, const FusedLayer& layer, Budget& budget, uint8_t* m) {
  WeightRows rows(budget, spec, negated(layer));
  const int64_t count = spec.geometry.inputs_per_output();
  for (int64_t c = 0; c < spec.geometry.out_channels; ++c) rows.write(c, m + c * count);
}

struct CodeSums {
  int64_t all = 0, above = 0;  // of all codes, of those above 0
};

// Sums of m, of m - limit where it is above 0, and how often it is: in lanes of a byte.
struct NarrowSums {
  static constexpr int kLanes = 64;
  uint8_t sums[kLanes] = {}, over[kLanes] = {}, reached[kLanes] = {};

  // single: m is a bit, and the first sum tells the others.
  template <bool single>
  void add(const uint8_t* m, int lanes, uint8_t limit) {
    for (int i = 0; i < lanes; ++i) {
      if (single) {
        sums[i] = static_cast<uint8_t>(sums[i] + m[i]);
        continue;
      }
      const uint8_t x = m[i], least = std::max(x, limit);
      sums[i] = static_cast<uint8_t>(sums[i] + x);
      over[i] = static_cast<uint8_t>(over[i] + (least - limit));
      reached[i] = static_cast<uint8_t>(reached[i] + (x > limit));
    }
  }
};

// With `limit` the largest m whose code is not above 0, the codes above it are
//   code_step * (m - limit) + (code_step * limit + lowest_code).
template <bool single>
CodeSums sum_codes(const uint8_t* m, int64_t count, const FusedSpec& spec) {
  constexpr int kLanes = NarrowSums::kLanes;
  const int64_t most_rows = 255 / ((1 << spec.weight_bits) - 1);  // whose sums are sure to fit a byte
  const auto limit = static_cast<uint8_t>(-spec.lowest_code / spec.code_step);
  int64_t sum = 0, over = 0, reached = 0;
  for (int64_t k = 0; k < count;) {
    NarrowSums narrow;
    const int64_t whole = std::min(most_rows, (count - k) / kLanes);
    for (int64_t row = 0; row < whole; ++row, k += kLanes) narrow.add<single>(m + k, kLanes, limit);
    if (whole < most_rows) {
      narrow.add<single>(m + k, static_cast<int>(count - k), limit);
      k = count;
    }
    for (int i = 0; i < kLanes; ++i) sum += narrow.sums[i];
    if (single) continue;
    for (int i = 0; i < kLanes; ++i) over += narrow.over[i], reached += narrow.reached[i];
  }
  if (single && limit == 0) over = reached = sum;
  const int64_t step = spec.code_step, lowest = spec.lowest_code;
  return {step * sum + lowest * count, step * over + (step * limit + lowest) * reached};
}

// m: of all weights.
void find_sums(const ConvSpec& spec, const uint8_t* m, Budget& budget, FusedLayer* layer) {
  const int64_t count = spec.geometry.inputs_per_output(), most = (1 << spec.activation_bits) - 1;
  budget.work(checked_mul(spec.geometry.out_channels, checked_mul(count, 3, "weights"), "weights"));
  FusedSpec& fused = layer->spec;
  fused.largest_sum = fused.largest_product = 0;
  for (int64_t c = 0; c < spec.geometry.out_channels; ++c) {
    const uint8_t* const row = m + c * count;
    const CodeSums sums =
        spec.weight_bits == 1 ? sum_codes<true>(row, count, fused) : sum_codes<false>(row, count, fused);
    const int64_t product = (sums.all - fused.lowest_code * count) / fused.code_step;
    fused.largest_product = std::max(fused.largest_product, product * most);
    fused.largest_sum = std::max(fused.largest_sum, std::max(sums.above, sums.above - sums.all) * most);
    const int64_t magnitudes = (2 * sums.above - sums.all) / sign_factor(spec);
    layer->largest_result = std::max(layer->largest_result, magnitudes * most);
  }
}

void make_borders(const ConvSpec& spec, Budget& budget, FusedLayer* layer) {
  if (!spec.sign_activations && spec.zero_point == 0) return;
  const int64_t times = spec.sign_activations ? 1 : spec.zero_point;
  ConvBorder border = make_border(spec, times, negated(*layer), padded_blocks(spec), budget);
  layer->row_class = std::move(border.row_class);
  layer->column_class = std::move(border.column_class);
  layer->border = std::move(border.sums);
  FusedSpec& fused = layer->spec;
  for (const int32_t value : layer->border) {
    fused.largest_border = std::max(fused.largest_border, std::abs(int64_t{value}));
  }
  FusedEpilogue& e = fused.epilogue;
  e.border = layer->border.data();
  e.row_class = layer->row_class.data();
  e.column_class = layer->column_class.data();
  e.column_classes = static_cast<int32_t>(border.column_classes);
  e.row_classes = static_cast<int32_t>(layer->border.size() / padded_channels(spec) / border.column_classes);
}

// Room for six numbers per channel.
enum Number { kMultiply, kOffset, kNormMultiply, kNormOffset, kLineMultiply, kLineOffset, kNumbers };

void keep_numbers(const ConvSpec& spec, Budget& budget, FusedLayer* layer) {
  const int64_t padded = padded_channels(spec), channels = spec.geometry.out_channels;
  layer->numbers = AlignedArray<float>(budget, kNumbers * padded, "numbers per channel");
  const auto copy = [&](Number number, const float* values) -> const float* {
    float* to = layer->numbers.data() + number * padded;
    if (values == nullptr) return nullptr;
    std::copy_n(values, channels, to);
    return to;
  };
  FusedEpilogue& e = layer->spec.epilogue;
  e.multiply = copy(kMultiply, spec.multiply);
  e.offset = copy(kOffset, spec.offset);
  e.norm_multiply = copy(kNormMultiply, spec.norm_multiply);
  e.norm_offset = copy(kNormOffset, spec.norm_offset);
  const uint8_t* const negate = negated(*layer);
  float* const multiply = layer->numbers.data() + kMultiply * padded;
  for (int64_t c = 0; negate != nullptr && c < channels; ++c) multiply[c] = negate[c] != 0 ? -multiply[c] : multiply[c];
}

// Thresholds by channel become rows of channels; those of weights that change sign are those of -D.
template <class T>
void keep_thresholds(const T* from, const uint8_t* negate, int64_t channels, int64_t n, T beyond, FusedLayer* layer) {
  const int64_t padded = round_up(channels, kFusedChannels);
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t c = 0; c < padded; ++c) {
      T t = c < channels ? from[c * n + j] : beyond;
      if (c < channels && negate != nullptr && negate[c] != 0) {
        t = t == std::numeric_limits<T>::lowest() ? std::numeric_limits<T>::max() : -t;
      }
      std::memcpy(&layer->thresholds[j * padded + c], &t, sizeof t);
    }
  }
}

CodeRule rule_of(const ConvSpec& spec, int64_t largest_result, Budget& budget) {
  const std::vector<BlockRange> blocks = padded_blocks(spec);
  if (spec.code.int_thresholds != nullptr) {
    return CodeRule(budget, spec.code.int_thresholds, spec.code.descending, static_cast<int32_t>(largest_result),
                    spec.code.bits, true, blocks);
  }
  if (spec.code.float_thresholds != nullptr)
    return CodeRule(budget, spec.code.float_thresholds, nullptr, spec.code.bits, blocks);
  return CodeRule(budget, spec.code.bits, blocks);
}

// A line where all channels have one, else thresholds.
void make_code_rule(const ConvSpec& spec, Budget& budget, FusedLayer* layer) {
  FusedEpilogue& e = layer->spec.epilogue;
  const int64_t padded = padded_channels(spec), n = (int64_t{1} << spec.code.bits) - 1;
  const CodeRule rule = rule_of(spec, layer->largest_result, budget);
  float* const multiply = layer->numbers.data() + kLineMultiply * padded;
  float* const offset = layer->numbers.data() + kLineOffset * padded;
  e.rule = kFusedLine;
  for (int64_t b = 0; b * kBlock < spec.geometry.out_channels; ++b) {
    CodeStage stage;
    rule.fill(b, &stage);
    if (stage.rule != kAffine) e.rule = kFusedThresholds;
    std::copy_n(stage.multiply, kBlock, multiply + b * kBlock);
    std::copy_n(stage.offset, kBlock, offset + b * kBlock);
  }
  e.line_multiply = e.rule == kFusedLine ? multiply : nullptr;
  e.line_offset = e.rule == kFusedLine ? offset : nullptr;
  e.thresholds = nullptr;
  const bool has = spec.code.int_thresholds != nullptr || spec.code.float_thresholds != nullptr;
  if (!has || (e.rule == kFusedLine && spec.code.bits > kSearchBits)) return;
  layer->thresholds = AlignedArray<uint32_t>(budget, checked_mul(n, padded, "thresholds"), "thresholds");
  const int64_t channels = spec.geometry.out_channels;
  if (spec.code.int_thresholds != nullptr) {
    keep_thresholds(spec.code.int_thresholds, negated(*layer), channels, n, std::numeric_limits<int32_t>::max(), layer);
  } else {
    keep_thresholds(spec.code.float_thresholds, nullptr, channels, n, std::numeric_limits<float>::quiet_NaN(), layer);
  }
  e.thresholds = layer->thresholds.data();
}

}  // namespace

bool describe_fused(const ConvSpec& spec, bool input_planes, bool output_planes, FusedSpec* fused) {
  const ConvGeometry& g = spec.geometry;
  if (spec.weight_bits == 0 || spec.wants_int) return false;
  if (!thresholds_can_rise(spec) || !can_pool(spec)) return false;
  const auto narrow = [](int64_t x) { return static_cast<int32_t>(x); };  // geometry is at most 2^24
  FusedSpec f = {};
  f.in_channels = narrow(g.in_channels);
  f.out_channels = narrow(g.out_channels);
  f.groups = narrow(g.groups);
  f.kernel_h = narrow(g.kernel_h);
  f.kernel_w = narrow(g.kernel_w);
  f.stride_h = narrow(g.stride_h);
  f.stride_w = narrow(g.stride_w);
  f.dilation_h = narrow(g.dilation_h);
  f.dilation_w = narrow(g.dilation_w);
  f.height = narrow(g.out_height());
  f.width = narrow(g.out_width());
  f.weight_bits = spec.weight_bits;
  f.activation_bits = spec.activation_bits;
  f.code_step = spec.code_step() * sign_factor(spec);
  f.lowest_code = spec.lowest_code() * sign_factor(spec);
  f.input_planes = input_planes;
  f.largest_sum = spec.largest_sum() * sign_factor(spec);
  const int64_t most = ((int64_t{1} << spec.weight_bits) - 1) * ((int64_t{1} << spec.activation_bits) - 1);
  f.largest_product = checked_mul(g.inputs_per_output(), most, "conv2d");
  if (spec.pool) {
    const ConvPool& p = spec.pool;
    f.pool = {narrow(p.kernel_h), narrow(p.kernel_w), narrow(p.stride_h),
              narrow(p.stride_w), narrow(p.pad_top),  narrow(p.pad_left),
              narrow(p.height),   narrow(p.width),    nullptr};
  }
  FusedEpilogue& e = f.epilogue;
  e.has_float = spec.multiply != nullptr;
  e.has_residual = spec.has_residual;
  e.relu = spec.relu;
  e.wants_float = spec.wants_float;
  e.wants_codes = spec.code.bits != 0;
  e.codes_from_int = spec.code.int_thresholds != nullptr;
  e.bits = spec.code.bits;
  e.planes = output_planes;
  e.rule = spec.code.bits > 2 || !(e.codes_from_int || spec.code.float_thresholds != nullptr) ? kFusedLine
                                                                                              : kFusedThresholds;
  const bool border = spec.sign_activations || spec.zero_point != 0;
  const bool padded = g.pad_top + g.pad_left + g.pad_bottom + g.pad_right > 0;
  e.row_classes = border ? (padded ? 3 : 1) : 0;
  e.column_classes = e.row_classes;
  *fused = f;
  return true;
}

std::unique_ptr<FusedLayer> make_fused_layer(const ConvSpec& spec, const Layout& input, const Layout* out_codes,
                                             Preparation& preparation, uint8_t* m) {
  auto layer = std::make_unique<FusedLayer>();
  const bool planes = out_codes != nullptr && out_codes->kind == Kind::kPlanes;
  if (!describe_fused(spec, input.kind == Kind::kPlanes, planes, &layer->spec)) return nullptr;
  Budget& budget = preparation.budget();
  find_negations(spec, budget, layer.get());
  write_weights(spec, *layer, budget, m);
  find_sums(spec, m, budget, layer.get());
  make_borders(spec, budget, layer.get());
  keep_numbers(spec, budget, layer.get());
  keep_pool(spec, budget, layer.get());
  if (spec.code.bits != 0) make_code_rule(spec, budget, layer.get());
  return layer;
}

}  // namespace bitorch
