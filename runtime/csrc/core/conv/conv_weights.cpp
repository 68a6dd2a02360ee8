#include "core/conv/conv_weights.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>

#include "core/base/checked.h"
#include "core/base/packing.h"

namespace bitorch {

namespace {

// The steps of a block, and where along them the weights of one kernel tap lie. A channel's weights are first put
// together as the kernel will read pixels, 4 bytes after 4 bytes ("the window"), then dealt out to the channel's lane.
struct Window {
  int64_t channels;               // input channels of a block: those of one group, or of several merged ones
  AlignedArray<int32_t> steps;    // byte offset of each step
  TemporaryArray<int64_t> taps;   // byte in the window where each tap begins
  TemporaryArray<uint8_t> masks;  // kTables: a bit for each of a step's channels

  Window(Budget& budget, int64_t block_channels, int64_t step_count, int64_t tap_count, int64_t mask_count)
      : channels(block_channels),
        steps(budget, step_count, "steps of a kernel window"),
        taps(budget, tap_count, "taps of a kernel window"),
        masks(budget, mask_count, "taps of a kernel window") {
    budget.work(checked_mul(checked_add(step_count, tap_count, "steps"), 4, "steps"));
    if (step_count > std::numeric_limits<int32_t>::max()) throw Error("conv2d: the kernel window is too large");
  }
  int64_t size() const { return steps.size(); }
};

int32_t step_offset(int64_t bytes) {
  if (bytes > std::numeric_limits<int32_t>::max())
    throw Error("conv2d: the kernel window spans more than 2 GiB of input");
  return static_cast<int32_t>(bytes);
}

// Whether all taps of a kernel row adjoin, so that steps may cross from one to the next. With 3 taps of 10 bytes that
// is 8 steps, with each tap rounded up to whole steps 9:
//
//   |tap 0     |tap 1     |tap 2     |..        |tap 0     ..|tap 1     ..|tap 2     ..|
//   |0 1 2 3|0 1 2 3|0 1 2 3| ...   8 steps     |0 1 2 3|0 1 2 3|0 1 . .| ...   9 steps
//
// What a step reads beyond the window meets weights of zero.
bool adjoins(const ConvGeometry& g, int64_t channels) { return channels == g.in_channels && g.dilation_w == 1; }

Window make_window(Budget& budget, const ConvGeometry& g, const PixelFormat& format, int64_t channels) {
  const int64_t taps = checked_mul(g.kernel_h, g.kernel_w, "weights");
  if (checked_mul(taps, channels, "weights") > std::numeric_limits<int32_t>::max()) {
    throw Error("conv2d: more than 2^31 inputs per output, those of the groups that share a block included");
  }
  // A run of consecutive bytes after the other: a kernel row where its taps adjoin, else one tap.
  const int64_t run_taps = adjoins(g, channels) ? g.kernel_w : 1, runs = taps / run_taps;
  const int64_t run_bytes = (run_taps - 1) * format.pixel_bytes + ceil_div(channels * format.channel_bits, 8);
  const int64_t run_steps = ceil_div(run_bytes, 4);
  Window window(budget, channels, checked_mul(runs, run_steps, "weights"), taps, 0);
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t ky = run * run_taps / g.kernel_w, kx = run * run_taps % g.kernel_w, first = run * run_steps;
    const int64_t offset = ky * g.dilation_h * format.row_bytes + kx * g.dilation_w * format.pixel_bytes;
    for (int64_t s = 0; s < run_steps; ++s) window.steps[first + s] = step_offset(offset + 4 * s);
    for (int64_t tap = 0; tap < run_taps; ++tap)
      window.taps[run * run_taps + tap] = 4 * first + tap * format.pixel_bytes;
  }
  return window;
}

// kDepthwise, kDepthwiseFloat: one step per tap.
Window make_tap_window(Budget& budget, const ConvGeometry& g, const PixelFormat& format) {
  const int64_t taps = checked_mul(g.kernel_h, g.kernel_w, "weights");
  Window window(budget, 1, taps, taps, 0);
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t ky = tap / g.kernel_w, kx = tap % g.kernel_w;
    window.taps[tap] = 4 * tap;
    window.steps[tap] = step_offset(ky * g.dilation_h * format.row_bytes + kx * g.dilation_w * format.pixel_bytes);
  }
  return window;
}

// kTables: one step per tap and `width` input channels. `taps` holds each step's first weight instead, `masks` which
// follow.
Window make_table_window(Budget& budget, const ConvGeometry& g, const PixelFormat& format, int width) {
  const int64_t steps =
      checked_mul(checked_mul(g.kernel_h, g.kernel_w, "weights"), ceil_div(g.in_channels, width), "weights");
  Window window(budget, g.in_channels, steps, steps, steps);
  int64_t s = 0;
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    for (int64_t c = 0; c < g.in_channels; c += width) {
      for (int64_t kx = 0; kx < g.kernel_w;
           ++kx, ++s) {  // innermost: neighbouring pixels read the same tables soon after
        const int64_t pixel = ky * g.dilation_h * format.row_bytes + kx * g.dilation_w * format.pixel_bytes;
        window.steps[s] = step_offset(pixel + c / width * format.table_stride);
        window.taps[s] = (ky * g.kernel_w + kx) * g.in_channels + c;
        window.masks[s] = static_cast<uint8_t>((1u << std::min<int64_t>(width, g.in_channels - c)) - 1);
      }
    }
  }
  return window;
}

// The weights of one output channel after the other, in the layout of a method.
class Writer {
 public:
  Writer(Budget& budget, const ConvSpec& spec, Method method, const Window& window, int lanes, const uint8_t* negate)
      : spec_(spec),
        method_(method),
        window_(window),
        lanes_(lanes),
        per_group_(spec.geometry.in_channels / spec.geometry.groups),
        words_(budget, method == kTables ? 0 : window.size(), "a row of weights"),
        elements_(budget,
                  checked_mul(spec.geometry.inputs_per_output(),
                              method == kWords       ? 2
                              : method == kDepthwise ? 4
                                                     : 0,
                              "weights"),
                  "a row of weights") {
    if (spec.weight_bits != 0) rows_.emplace(budget, spec, negate);
  }

  // Channel `channel` of the output to lane `lane` of the block at `out`; it reads the channels of the block's
  // group_in_block-th group.
  void write(int64_t channel, int64_t group_in_block, int64_t lane, uint8_t* out) {
    if (method_ == kTables) return tables(rows_->planes(channel), lane, out);
    if (method_ == kPopcount) return popcount(rows_->planes(channel), lane, out);
    const int64_t size = element_bytes();
    const uint8_t* elements = this->elements(channel);
    uint8_t* bytes = reinterpret_cast<uint8_t*>(words_.data()) + group_in_block * per_group_ * size;
    std::fill(words_.begin(), words_.end(), 0);
    for (int64_t tap = 0; tap < window_.taps.size(); ++tap) {
      std::memcpy(bytes + window_.taps[tap], elements + tap * per_group_ * size,
                  static_cast<size_t>(per_group_ * size));
    }
    deal(lane, out);
  }

 private:
  int64_t element_bytes() const { return method_ == kBytes ? 1 : method_ == kWords ? 2 : 4; }

  // A word of the window for every step: to the channel's lane.
  void deal(int64_t lane, uint8_t* out) const {
    uint32_t* lanes = reinterpret_cast<uint32_t*>(out) + lane;
    for (int64_t s = 0; s < window_.size(); ++s) lanes[s * kBlock] = words_[s];
  }

  void popcount(const uint8_t* planes, int64_t lane, uint8_t* out) {
    uint8_t* bytes = reinterpret_cast<uint8_t*>(words_.data());
    for (int j = 0; j < spec_.weight_bits; ++j, planes += rows_->plane_bytes(), out += window_.size() * kBlock * 4) {
      std::fill(words_.begin(), words_.end(), 0);
      for (int64_t tap = 0; tap < window_.taps.size(); ++tap) {
        copy_bits(bytes + window_.taps[tap], planes, tap * per_group_, per_group_);
      }
      deal(lane, out);
    }
  }

  void tables(const uint8_t* planes, int64_t lane, uint8_t* out) const {
    out += lane;
    for (int j = 0; j < spec_.weight_bits; ++j, planes += rows_->plane_bytes()) {
      for (int64_t s = 0; s < window_.taps.size(); ++s, out += lanes_) {
        const auto first = static_cast<uint64_t>(window_.taps[s]);
        const unsigned bits = static_cast<unsigned>(planes[first / 8] | planes[first / 8 + 1] << 8) >> first % 8;
        *out = static_cast<uint8_t>(bits & window_.masks[s]);
      }
    }
  }

  // The code c, or where it is halved m - 128; or the float weights.
  const uint8_t* elements(int64_t channel) {
    const int64_t count = spec_.geometry.inputs_per_output();
    if (spec_.weight_bits == 0) return reinterpret_cast<const uint8_t*>(spec_.float_weights + channel * count);
    uint8_t* m = rows_->codes(channel);
    const bool halves = halves_codes(spec_, method_);
    const int step = halves ? 1 : spec_.code_step(), lowest = halves ? -128 : spec_.lowest_code();
    if (method_ == kBytes) {
      for (int64_t k = 0; k < count; ++k) m[k] = static_cast<uint8_t>(step * m[k] + lowest);
      return m;
    }
    for (int64_t k = 0; k < count; ++k) {
      const int32_t code = step * m[k] + lowest;
      if (method_ == kWords) {
        reinterpret_cast<int16_t*>(elements_.data())[k] = static_cast<int16_t>(code);
      } else {
        reinterpret_cast<int32_t*>(elements_.data())[k] = code;
      }
    }
    return elements_.data();
  }

  const ConvSpec& spec_;
  Method method_;
  const Window& window_;
  int lanes_;  // kTables
  int64_t per_group_;
  std::optional<WeightRows> rows_;
  TemporaryArray<uint32_t> words_;    // of the window
  TemporaryArray<uint8_t> elements_;  // a channel's codes where they are wider than a byte
};

// Bytes of one step's weights in one block; kTables: in one part of table_lanes channels.
int64_t step_weight_bytes(Method method, int weight_bits, int lanes) {
  switch (method) {
    case kPopcount:
      return 4 * kBlock * static_cast<int64_t>(weight_bits);
    case kTables:
      return lanes * static_cast<int64_t>(weight_bits);
    default:
      return 4 * kBlock;
  }
}

}  // namespace

bool is_depthwise(const ConvGeometry& g) {
  return g.groups > 1 && g.groups == g.in_channels && g.groups == g.out_channels;
}

bool halves_codes(const ConvSpec& spec, Method method) {
  return method == kBytes && spec.weight_bits == 8 && spec.weight_grid == WeightGrid::kOdd;
}

bool merges_groups(const ConvSpec& spec, Method method) {
  const ConvGeometry& g = spec.geometry;
  if (g.groups == 1 || g.out_channels / g.groups > kBlock / 2) return false;
  if (method == kDepthwise || method == kDepthwiseFloat) return true;
  // Window sums, which halved codes need, are per group. A float zero does not hide an infinity.
  return method == kWords || (method == kBytes && !halves_codes(spec, method));
}

const uint8_t* negated_channels(const ConvSpec& spec) {
  const uint8_t* const falls = spec.code.descending;
  if (falls == nullptr || spec.code.int_thresholds == nullptr || spec.wants_int) return nullptr;
  if (spec.weight_grid != WeightGrid::kOdd) return nullptr;
  for (int64_t c = 0; spec.offset != nullptr && c < spec.geometry.out_channels; ++c) {
    if (falls[c] != 0 && spec.offset[c] == 0 && std::signbit(spec.offset[c])) return nullptr;
  }
  return falls;
}

std::vector<BlockRange> conv_blocks(const ConvGeometry& g, bool merged) {
  const int64_t per_group = g.out_channels / g.groups;
  if (merged || g.groups == 1) {
    const int64_t width = g.groups == 1 ? kBlock : kBlock / per_group * per_group;
    std::vector<BlockRange> blocks;
    for (int64_t c = 0; c < g.out_channels; c += width) {
      blocks.push_back({c, static_cast<int32_t>(std::min(width, g.out_channels - c))});
    }
    return blocks;
  }
  std::vector<BlockRange> blocks;
  for (int64_t group = 0; group < g.groups; ++group) {
    for (const BlockRange& block : plain_blocks(per_group)) {
      blocks.push_back({group * per_group + block.first_channel, block.channels});
    }
  }
  return blocks;
}

WeightRows::WeightRows(Budget& budget, const ConvSpec& spec, const uint8_t* negate)
    : spec_(spec),
      negate_(negate),
      count_(spec.geometry.inputs_per_output()),
      codes_(budget, count_, "a row of weights"),
      planes_(budget, spec.weight_bits * plane_bytes(), "a row of weights") {}

void WeightRows::write(int64_t channel, uint8_t* m) const {
  const uint8_t* row = spec_.packed_weights + channel * packed_row_bytes(count_, spec_.weight_bits);
  unpack_row(row, count_, spec_.weight_bits, m);
  if (negate_ == nullptr || negate_[channel] == 0) return;
  const int sum = spec_.negated_sum();
  for (int64_t k = 0; k < count_; ++k) m[k] = static_cast<uint8_t>(sum - m[k]);
}

uint8_t* WeightRows::codes(int64_t channel) {
  write(channel, codes_.data());
  return codes_.data();
}

const uint8_t* WeightRows::planes(int64_t channel) {
  if (spec_.weight_bits > 1 || (negate_ != nullptr && negate_[channel] != 0)) {
    split_planes(codes(channel), count_, spec_.weight_bits, planes_.data(), plane_bytes());
  } else {  // a row of one bit is its plane
    const int64_t bytes = packed_row_bytes(count_, 1);
    std::memcpy(planes_.data(), spec_.packed_weights + channel * bytes, static_cast<size_t>(bytes));
  }
  return planes_.data();
}

int64_t largest_result(const ConvSpec& spec, Budget& budget) {
  const int64_t channels = spec.geometry.out_channels, count = spec.geometry.inputs_per_output();
  budget.work(checked_mul(channels, checked_mul(count, 2, "weights"), "weights"));
  WeightRows rows(budget, spec, nullptr);
  const int32_t step = spec.code_step(), lowest = spec.lowest_code();
  int64_t most = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const uint8_t* const m = rows.codes(c);
    int64_t sum = 0;
    for (int64_t k = 0; k < count; ++k) sum += std::abs(step * m[k] + lowest);
    most = std::max(most, sum);
  }
  return most * ((1 << spec.activation_bits) - 1);
}

namespace {

// How long it takes to deal out the weights, about.
int64_t tiling_steps(const ConvSpec& spec, Method method, const Window& window) {
  const int64_t planes = method == kPopcount || method == kTables ? spec.weight_bits : 1;
  const int64_t row = checked_add(
      checked_mul(spec.geometry.inputs_per_output(), 2, "weights"),
      checked_mul(planes, checked_mul(window.size(), 2, "weights") + 4 * window.taps.size(), "weights"), "weights");
  return checked_mul(spec.geometry.out_channels, row, "weights");
}

ConvWeights tile_weights(const ConvSpec& spec, Method method, const KernelTable& kernels, const PixelFormat& format,
                         const Window& window, const uint8_t* negate, Preparation& preparation) {
  Budget& budget = preparation.budget();
  const ConvGeometry& g = spec.geometry;
  const bool merged = merges_groups(spec, method);
  const int64_t out_per_group = g.out_channels / g.groups, in_per_group = g.in_channels / g.groups;
  const std::vector<BlockRange> ranges = conv_blocks(g, merged);
  const int64_t groups_per_block = merged ? std::min(kBlock / out_per_group, g.groups) : 1;
  const bool depthwise = method == kDepthwise || method == kDepthwiseFloat;
  const int lanes = method == kTables ? kernels.table_lanes : kBlock;
  const int64_t block_bytes = checked_mul(window.size(), step_weight_bytes(method, spec.weight_bits, lanes), "weights");
  const int64_t count = static_cast<int64_t>(ranges.size());
  const int64_t parts = method == kTables ? ceil_div(g.out_channels, lanes) : count;
  AlignedArray<ConvBlock> blocks(budget, count, "blocks of channels");
  AlignedArray<uint8_t> data(budget, checked_mul(block_bytes, parts, "weights"), "the weights, prepared for this CPU");
  budget.work(tiling_steps(spec, method, window));
  Writer writer(budget, spec, method, window, lanes, negate);
  for (int64_t b = 0; b < count; ++b) {
    const BlockRange& range = ranges[static_cast<size_t>(b)];
    const int64_t group = range.first_channel / out_per_group;
    // A last block of fewer groups reads a whole window all the same: moved back, it ends where the pixel does.
    const int64_t first_group = depthwise ? group : std::min(group, g.groups - groups_per_block);
    const int64_t channel_offset = method == kTables ? 0 : first_group * in_per_group * format.channel_bits / 8;
    const int64_t lane = range.first_channel % lanes;  // of its first channel, kTables with wide parts only
    const int64_t at = method == kTables ? range.first_channel / lanes * block_bytes : b * block_bytes;
    blocks[b] = {range.first_channel, range.channels, channel_offset, at, group};
    for (int c = 0; c < range.channels; ++c) {
      const int64_t channel = range.first_channel + c;
      const int64_t group_in_block = depthwise ? 0 : channel / out_per_group - first_group;
      writer.write(channel, group_in_block, (method == kTables ? lane : 0) + c, data.data() + at);
    }
  }
  return {std::move(blocks), preparation.kept(std::move(data))};
}

}  // namespace

PreparedWeights prepare_weights(const ConvSpec& spec, Method method, const KernelTable& kernels,
                                const PixelFormat& format, const uint8_t* negate, Preparation& preparation) {
  const ConvGeometry& g = spec.geometry;
  Budget& budget = preparation.budget();
  const int64_t out_per_group = g.out_channels / g.groups;
  const int64_t groups_per_block = merges_groups(spec, method) ? std::min(kBlock / out_per_group, g.groups) : 1;
  const int64_t channels = g.in_channels / g.groups * groups_per_block;  // that a block reads
  const bool depthwise = method == kDepthwise || method == kDepthwiseFloat;
  Window window = depthwise           ? make_tap_window(budget, g, format)
                  : method == kTables ? make_table_window(budget, g, format, kernels.table_channels)
                                      : make_window(budget, g, format, channels);
  const void* source = spec.weight_bits == 0 ? static_cast<const void*>(spec.float_weights) : spec.packed_weights;
  const auto key = {Preparation::address(source),
                    Preparation::address(negate),
                    int64_t{method},
                    int64_t{spec.weight_bits},
                    static_cast<int64_t>(spec.weight_grid),
                    g.kernel_h,
                    g.kernel_w,
                    g.in_channels,
                    g.out_channels,
                    g.groups,
                    format.pixel_bytes,
                    int64_t{adjoins(g, channels)}};
  auto weights = preparation.share<ConvWeights>(
      key, [&] { return tile_weights(spec, method, kernels, format, window, negate, preparation); });
  return {std::move(weights), std::move(window.steps)};
}

}  // namespace bitorch
