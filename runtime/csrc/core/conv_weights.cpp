#include "conv_weights.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "checked.h"
#include "packing.h"

namespace bitorch {

namespace {

// The steps of a block, and where along them the weights of one kernel tap lie. A channel's weights are first put together as
// the kernel will read pixels, 4 bytes after 4 bytes ("the window"), then dealt out to the channel's lane.
struct Window {
  int64_t channels;            // input channels of a block: those of one group, or of several merged ones
  std::vector<int32_t> steps;  // byte offset of each step
  std::vector<int64_t> taps;   // byte in the window where each tap begins
  std::vector<uint8_t> masks;  // kTables: a bit for each of a step's channels

  int64_t size() const { return static_cast<int64_t>(steps.size()); }
};

int32_t step_offset(int64_t bytes) {
  if (bytes > std::numeric_limits<int32_t>::max()) throw Error("conv2d: the kernel window spans more than 2 GiB of input");
  return static_cast<int32_t>(bytes);
}

// One run of consecutive bytes: all taps of a kernel row where they adjoin, else one tap.
void add_run(Window* window, const PixelFormat& format, int64_t offset, int64_t taps) {
  const int64_t begin = 4 * window->size();
  const int64_t bytes = (taps - 1) * format.pixel_bytes + ceil_div(window->channels * format.channel_bits, 8);
  for (int64_t o = 0; o < bytes; o += 4) window->steps.push_back(step_offset(offset + o));
  for (int64_t tap = 0; tap < taps; ++tap) window->taps.push_back(begin + tap * format.pixel_bytes);
}

Window make_window(const ConvGeometry& g, const PixelFormat& format, int64_t channels) {
  Window window{channels, {}, {}, {}};
  if (checked_mul(g.kernel_h * g.kernel_w, channels, "weights") > std::numeric_limits<int32_t>::max()) {
    throw Error("conv2d: more than 2^31 inputs per output, those of the groups that share a block included");
  }
  const bool whole_pixel = channels == g.in_channels;
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    const int64_t row = ky * g.dilation_h * format.row_bytes;
    if (whole_pixel && g.dilation_w == 1) {
      add_run(&window, format, row, g.kernel_w);
      continue;
    }
    for (int64_t kx = 0; kx < g.kernel_w; ++kx) add_run(&window, format, row + kx * g.dilation_w * format.pixel_bytes, 1);
  }
  return window;
}

// kDepthwise, kDepthwiseFloat: one step per tap.
Window make_tap_window(const ConvGeometry& g, const PixelFormat& format) {
  Window window{1, {}, {}, {}};
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    for (int64_t kx = 0; kx < g.kernel_w; ++kx) {
      window.taps.push_back(4 * window.size());
      window.steps.push_back(step_offset(ky * g.dilation_h * format.row_bytes + kx * g.dilation_w * format.pixel_bytes));
    }
  }
  return window;
}

// kTables: one step per tap and `width` input channels. `taps` holds each step's first weight instead, `masks` which follow.
Window make_table_window(const ConvGeometry& g, const PixelFormat& format, int width) {
  Window window{g.in_channels, {}, {}, {}};
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    for (int64_t c = 0; c < g.in_channels; c += width) {
      for (int64_t kx = 0; kx < g.kernel_w; ++kx) {  // innermost: neighbouring pixels read the same tables soon after
        const int64_t pixel = ky * g.dilation_h * format.row_bytes + kx * g.dilation_w * format.pixel_bytes;
        window.steps.push_back(step_offset(pixel + c / width * format.table_stride));
        window.taps.push_back((ky * g.kernel_w + kx) * g.in_channels + c);
        window.masks.push_back(static_cast<uint8_t>((1u << std::min<int64_t>(width, g.in_channels - c)) - 1));
      }
    }
  }
  return window;
}

// The weights of one output channel after the other, in the layout of a method.
class Writer {
 public:
  Writer(const ConvSpec& spec, Method method, const Window& window, int lanes, const uint8_t* negate)
      : spec_(spec), method_(method), window_(window), lanes_(lanes), per_group_(spec.geometry.in_channels / spec.geometry.groups) {
    if (spec.weight_bits != 0) rows_.emplace(spec, negate);
    if (method != kTables) words_.resize(static_cast<size_t>(window.size()));
    elements_.resize(static_cast<size_t>(method == kWords ? 2 : method == kDepthwise ? 4 : 0) * static_cast<size_t>(spec.geometry.inputs_per_output()));
  }

  // Channel `channel` of the output to lane `lane` of the block at `out`; it reads the channels of the block's group_in_block-th
  // group.
  void write(int64_t channel, int64_t group_in_block, int64_t lane, uint8_t* out) {
    if (method_ == kTables) return tables(rows_->planes(channel), lane, out);
    if (method_ == kPopcount) return popcount(rows_->planes(channel), lane, out);
    const int64_t size = element_bytes();
    const uint8_t* elements = this->elements(channel);
    uint8_t* bytes = reinterpret_cast<uint8_t*>(words_.data()) + group_in_block * per_group_ * size;
    std::fill(words_.begin(), words_.end(), 0);
    for (size_t tap = 0; tap < window_.taps.size(); ++tap) {
      std::memcpy(bytes + window_.taps[tap], elements + static_cast<int64_t>(tap) * per_group_ * size, static_cast<size_t>(per_group_ * size));
    }
    deal(lane, out);
  }

 private:
  int64_t element_bytes() const { return method_ == kBytes ? 1 : method_ == kWords ? 2 : 4; }

  // A word of the window for every step: to the channel's lane.
  void deal(int64_t lane, uint8_t* out) const {
    uint32_t* lanes = reinterpret_cast<uint32_t*>(out) + lane;
    for (int64_t s = 0; s < window_.size(); ++s) lanes[s * kBlock] = words_[static_cast<size_t>(s)];
  }

  void popcount(const uint8_t* planes, int64_t lane, uint8_t* out) {
    uint8_t* bytes = reinterpret_cast<uint8_t*>(words_.data());
    for (int j = 0; j < spec_.weight_bits; ++j, planes += rows_->plane_bytes(), out += window_.size() * kBlock * 4) {
      std::fill(words_.begin(), words_.end(), 0);
      for (size_t tap = 0; tap < window_.taps.size(); ++tap) {
        copy_bits(bytes + window_.taps[tap], planes, static_cast<int64_t>(tap) * per_group_, per_group_);
      }
      deal(lane, out);
    }
  }

  void tables(const uint8_t* planes, int64_t lane, uint8_t* out) const {
    out += lane;
    for (int j = 0; j < spec_.weight_bits; ++j, planes += rows_->plane_bytes()) {
      for (size_t s = 0; s < window_.taps.size(); ++s, out += lanes_) {
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
  std::vector<uint32_t> words_;     // of the window
  std::vector<uint8_t> elements_;   // a channel's codes where they are wider than a byte
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

bool is_depthwise(const ConvGeometry& g) { return g.groups > 1 && g.groups == g.in_channels && g.groups == g.out_channels; }

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

WeightRows::WeightRows(const ConvSpec& spec, const uint8_t* negate)
    : spec_(spec), negate_(negate), count_(spec.geometry.inputs_per_output()), codes_(static_cast<size_t>(count_)),
      planes_(static_cast<size_t>(spec.weight_bits * plane_bytes())) {}

uint8_t* WeightRows::codes(int64_t channel) {
  const uint8_t* row = spec_.packed_weights + channel * packed_row_bytes(count_, spec_.weight_bits);
  unpack_row(row, count_, spec_.weight_bits, codes_.data());
  if (negate_ != nullptr && negate_[channel] != 0) {
    const auto n = static_cast<uint8_t>((1 << spec_.weight_bits) - 1);
    for (uint8_t& m : codes_) m = static_cast<uint8_t>(n - m);
  }
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

ConvWeights tile_weights(const ConvSpec& spec, Method method, const KernelTable& kernels, const PixelFormat& format,
                         const uint8_t* negate) {
  const ConvGeometry& g = spec.geometry;
  const bool merged = merges_groups(spec, method);
  const int64_t out_per_group = g.out_channels / g.groups;
  const int64_t in_per_group = g.in_channels / g.groups;
  const std::vector<BlockRange> ranges = conv_blocks(g, merged);
  const int64_t groups_per_block = merged ? std::min(kBlock / out_per_group, g.groups) : 1;
  const bool depthwise = method == kDepthwise || method == kDepthwiseFloat;
  spec.spend(checked_mul(g.kernel_h * g.kernel_w, sizeof(int64_t) + sizeof(int32_t), "weights"));  // the window's own
  const Window window = depthwise           ? make_tap_window(g, format)
                        : method == kTables ? make_table_window(g, format, kernels.table_channels)
                                            : make_window(g, format, in_per_group * groups_per_block);
  const int lanes = method == kTables ? kernels.table_lanes : kBlock;
  if (window.size() > std::numeric_limits<int32_t>::max()) throw Error("conv2d: the kernel window is too large");
  const int64_t block_bytes = checked_mul(window.size(), step_weight_bytes(method, spec.weight_bits, lanes), "weights");

  ConvWeights weights;
  weights.steps = window.steps;
  const int64_t parts = method == kTables ? ceil_div(g.out_channels, lanes) : static_cast<int64_t>(ranges.size());
  const int64_t bytes = checked_mul(block_bytes, parts, "weights");
  spec.spend(bytes);
  weights.data = AlignedArray<uint8_t>(bytes);
  Writer writer(spec, method, window, lanes, negate);
  for (size_t b = 0; b < ranges.size(); ++b) {
    const int64_t group = ranges[b].first_channel / out_per_group;
    // A last block of fewer groups reads a whole window all the same: moved back, it ends where the pixel does.
    const int64_t first_group = depthwise ? group : std::min(group, g.groups - groups_per_block);
    const int64_t channel_offset = method == kTables ? 0 : first_group * in_per_group * format.channel_bits / 8;
    const int64_t lane = ranges[b].first_channel % lanes;  // of its first channel, kTables with wide parts only
    const int64_t at = method == kTables ? ranges[b].first_channel / lanes * block_bytes : static_cast<int64_t>(b) * block_bytes;
    weights.blocks.push_back({ranges[b].first_channel, ranges[b].channels, channel_offset, at, group});
    for (int c = 0; c < ranges[b].channels; ++c) {
      const int64_t channel = ranges[b].first_channel + c;
      const int64_t group_in_block = depthwise ? 0 : channel / out_per_group - first_group;
      writer.write(channel, group_in_block, (method == kTables ? lane : 0) + c, weights.data.data() + at);
    }
  }
  return weights;
}

}  // namespace bitorch
