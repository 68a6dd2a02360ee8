#include "conv_weights.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "checked.h"

namespace bitorch {

namespace {

// The input channels that a block reads, and how its steps divide them.
struct Runs {
  int64_t channels;             // input channels of a block: those of one group, or of several merged ones
  int units;                    // channels in one step: 32 bits, 4 bytes, 2 words, 1 float
  std::vector<int32_t> steps;   // byte offset of each step
  std::vector<int32_t> source;  // [steps][units]: tap * channels + channel, or -1 where a weight is zero
};

int32_t step_offset(int64_t bytes) {
  if (bytes > std::numeric_limits<int32_t>::max()) throw Error("conv2d: the kernel window spans more than 2 GiB of input");
  return static_cast<int32_t>(bytes);
}

// One run of consecutive bytes: all taps of a kernel row where they adjoin, else one tap.
void add_run(Runs* runs, const PixelFormat& format, int64_t offset, int64_t first_tap, int64_t taps) {
  const int64_t tap_bytes = ceil_div(runs->channels * format.channel_bits, 8);
  const int64_t bytes = (taps - 1) * format.pixel_bytes + tap_bytes;
  for (int64_t o = 0; o < bytes; o += 4) {
    runs->steps.push_back(step_offset(offset + o));
    for (int u = 0; u < runs->units; ++u) {
      const int64_t bit = o * 8 + static_cast<int64_t>(u) * format.channel_bits;
      const int64_t tap = bit / (format.pixel_bytes * 8);
      const int64_t channel = bit % (format.pixel_bytes * 8) / format.channel_bits;
      const bool real = tap < taps && channel < runs->channels;
      runs->source.push_back(real ? static_cast<int32_t>((first_tap + tap) * runs->channels + channel) : -1);
    }
  }
}

Runs make_runs(const ConvGeometry& g, const PixelFormat& format, int64_t channels) {
  Runs runs;
  if (checked_mul(g.kernel_h * g.kernel_w, channels, "weights") > std::numeric_limits<int32_t>::max()) {
    throw Error("conv2d: more than 2^31 inputs per output, those of the groups that share a block included");
  }
  runs.channels = channels;
  runs.units = 32 / format.channel_bits;
  const bool whole_pixel = channels == g.in_channels;
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    const int64_t row = ky * g.dilation_h * format.row_bytes;
    if (whole_pixel && g.dilation_w == 1) {
      add_run(&runs, format, row, ky * g.kernel_w, g.kernel_w);
      continue;
    }
    for (int64_t kx = 0; kx < g.kernel_w; ++kx) {
      add_run(&runs, format, row + kx * g.dilation_w * format.pixel_bytes, ky * g.kernel_w + kx, 1);
    }
  }
  return runs;
}

// kTables: one step per tap and `width` input channels. kDepthwise: one step per tap.
Runs make_tap_runs(const ConvGeometry& g, const PixelFormat& format, int64_t channels, int width) {
  Runs runs;
  runs.channels = channels;
  runs.units = width;
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    for (int64_t c = 0; c < channels; c += width) {
      for (int64_t kx = 0; kx < g.kernel_w; ++kx) {  // innermost: neighbouring pixels read the same tables soon after
        const int64_t tap = ky * g.kernel_w + kx;
        const int64_t pixel = ky * g.dilation_h * format.row_bytes + kx * g.dilation_w * format.pixel_bytes;
        runs.steps.push_back(step_offset(pixel + c / width * format.table_stride));
        for (int u = 0; u < width; ++u) {
          runs.source.push_back(c + u < channels ? static_cast<int32_t>(tap * channels + c + u) : -1);
        }
      }
    }
  }
  return runs;
}

// m of one output channel's weight at a source position; -1 where it is zero (between merged groups, or surplus).
class ChannelWeights {
 public:
  ChannelWeights(const ConvGeometry& g, const Runs& runs, int64_t group_in_block)
      : per_group_(g.in_channels / g.groups), run_(runs.channels), first_(group_in_block * per_group_) {}
  int64_t index(int32_t source) const {
    if (source < 0) return -1;
    if (run_ == per_group_) return source;
    const int64_t tap = source / run_;
    const int64_t channel = source % run_ - first_;
    return channel >= 0 && channel < per_group_ ? tap * per_group_ + channel : -1;
  }

 private:
  int64_t per_group_, run_, first_;
};

// The weights of output channel c (of its block), at `out`, the block's weights.
struct Writer {
  const ConvSpec& spec;
  Method method;
  const Runs& runs;
  int lanes;  // kTables

  int64_t steps() const { return static_cast<int64_t>(runs.steps.size()); }

  void popcount(const uint8_t* m, const ChannelWeights& weights, int c, uint8_t* out) const {
    uint32_t* words = reinterpret_cast<uint32_t*>(out);
    for (int64_t s = 0; s < steps(); ++s) {
      uint32_t planes[8] = {};
      for (int u = 0; u < 32; ++u) {
        const int64_t k = weights.index(runs.source[s * 32 + u]);
        if (k < 0) continue;
        for (int j = 0; j < spec.weight_bits; ++j) planes[j] |= static_cast<uint32_t>(m[k] >> j & 1) << u;
      }
      for (int j = 0; j < spec.weight_bits; ++j) words[(j * steps() + s) * kBlock + c] = planes[j];
    }
  }

  void tables(const uint8_t* m, const ChannelWeights& weights, int c, uint8_t* out) const {
    for (int64_t s = 0; s < steps(); ++s) {
      for (int j = 0; j < spec.weight_bits; ++j) {
        unsigned index = 0;
        for (int u = 0; u < runs.units; ++u) {
          const int64_t k = weights.index(runs.source[s * runs.units + u]);
          if (k >= 0) index |= (m[k] >> j & 1u) << u;
        }
        out[(j * steps() + s) * lanes + c] = static_cast<uint8_t>(index);
      }
    }
  }

  // The code c = 2m - n; for 8-bit weights in int8 (c - 1) / 2 = m - 128.
  void integers(const uint8_t* m, const ChannelWeights& weights, int c, uint8_t* out) const {
    const int n = (1 << spec.weight_bits) - 1;
    const int units = method == kDepthwise ? 1 : runs.units;
    for (int64_t s = 0; s < steps(); ++s) {
      for (int u = 0; u < units; ++u) {
        const int64_t k = weights.index(runs.source[s * units + u]);
        const int64_t at = (s * kBlock + c) * units + u;
        const int code = k < 0 ? 0 : 2 * m[k] - n;
        if (method == kBytes) {
          const int byte = spec.weight_bits == 8 && k >= 0 ? m[k] - 128 : code;
          reinterpret_cast<int8_t*>(out)[at] = static_cast<int8_t>(byte);
        } else if (method == kWords) {
          reinterpret_cast<int16_t*>(out)[at] = static_cast<int16_t>(code);
        } else {
          reinterpret_cast<int32_t*>(out)[at] = code;
        }
      }
    }
  }

  void floats(const float* w, const ChannelWeights& weights, int c, uint8_t* out) const {
    for (int64_t s = 0; s < steps(); ++s) {
      const int64_t k = weights.index(runs.source[s]);
      reinterpret_cast<float*>(out)[s * kBlock + c] = k < 0 ? 0.0f : w[k];
    }
  }
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

bool merges_groups(const ConvSpec& spec, Method method) {
  const ConvGeometry& g = spec.geometry;
  if (g.groups == 1 || g.out_channels / g.groups > kBlock / 2) return false;
  if (method == kDepthwise || method == kDepthwiseFloat) return true;
  // Window sums, which 8-bit weights in int8 need, are per group. A float zero does not hide an infinity.
  return method == kWords || (method == kBytes && spec.weight_bits < 8);
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

ConvWeights tile_weights(const ConvSpec& spec, Method method, const KernelTable& kernels, const PixelFormat& format,
                         const std::vector<uint8_t>& codes) {
  const ConvGeometry& g = spec.geometry;
  const bool merged = merges_groups(spec, method);
  const int64_t out_per_group = g.out_channels / g.groups;
  const int64_t in_per_group = g.in_channels / g.groups;
  const std::vector<BlockRange> ranges = conv_blocks(g, merged);
  const int64_t groups_per_block = merged ? std::min(kBlock / out_per_group, g.groups) : 1;
  Runs runs;
  const bool depthwise = method == kDepthwise || method == kDepthwiseFloat;
  if (depthwise) {
    runs = make_tap_runs(g, format, 1, 1);
  } else if (method == kTables) {
    runs = make_tap_runs(g, format, in_per_group, kernels.table_channels);
  } else {
    runs = make_runs(g, format, in_per_group * groups_per_block);
  }
  const int lanes = method == kTables ? kernels.table_lanes : kBlock;
  const int64_t steps = static_cast<int64_t>(runs.steps.size());
  if (steps > std::numeric_limits<int32_t>::max()) throw Error("conv2d: the kernel window is too large");
  const int64_t block_bytes = checked_mul(steps, step_weight_bytes(method, spec.weight_bits, lanes), "weights");

  ConvWeights weights;
  weights.steps = runs.steps;
  const int64_t parts = method == kTables ? ceil_div(g.out_channels, lanes) : static_cast<int64_t>(ranges.size());
  const int64_t bytes = checked_mul(block_bytes, parts, "weights");
  spec.spend(bytes);
  weights.data = AlignedArray<uint8_t>(bytes);
  const Writer writer{spec, method, runs, lanes};
  const int64_t row = g.inputs_per_output();
  for (size_t b = 0; b < ranges.size(); ++b) {
    const int64_t group = ranges[b].first_channel / out_per_group;
    // A last block of fewer groups reads a whole window all the same: moved back, it ends where the pixel does.
    const int64_t window = depthwise ? group : std::min(group, g.groups - groups_per_block);
    const int64_t channel_offset = method == kTables ? 0 : window * in_per_group * format.channel_bits / 8;
    const int64_t lane = ranges[b].first_channel % lanes;  // of its first channel, kTables with wide parts only
    const int64_t at = method == kTables ? ranges[b].first_channel / lanes * block_bytes : static_cast<int64_t>(b) * block_bytes;
    weights.blocks.push_back({ranges[b].first_channel, ranges[b].channels, channel_offset, at, group});
    uint8_t* out = weights.data.data() + at;
    for (int c = 0; c < ranges[b].channels; ++c) {
      const int64_t channel = ranges[b].first_channel + c;
      const ChannelWeights source(g, runs, depthwise ? 0 : channel / out_per_group - window);
      if (spec.weight_bits == 0) {
        writer.floats(spec.float_weights + channel * row, source, c, out);
        continue;
      }
      const uint8_t* m = codes.data() + channel * row;
      if (method == kPopcount) {
        writer.popcount(m, source, c, out);
      } else if (method == kTables) {
        writer.tables(m, source, static_cast<int>(lane) + c, out);
      } else {
        writer.integers(m, source, c, out);
      }
    }
  }
  return weights;
}

}  // namespace bitorch
