#include "core/training/weight_codes.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/base/checked.h"

namespace bitorch {
namespace {

constexpr int kHighest = 127, kLowest = -128, kHighestHalved = 255;

struct Range {
  int low, high;  // 0 among them
  bool odd;       // all of them
};

template <class T>
Range range_of(const ArrayView& codes) {
  const T* from = static_cast<const T*>(codes.data);
  const int64_t n = codes.elements();
  T least = 0, most = 0, both = 1;
  for (int64_t i = 0; i < n; ++i) {
    least = std::min(least, from[i]);
    most = std::max(most, from[i]);
    both = static_cast<T>(both & from[i]);
  }
  return {least, most, both != 0};
}

void check_halves(const Range& range) {
  if (range.low < -kHighestHalved || range.high > kHighestHalved || !range.odd) {
    throw Error("weight: codes from " + std::to_string(range.low) + " to " + std::to_string(range.high) +
                (range.odd ? "" : ", some even") + "; they must be from -128 to 127, or odd and from -255 to 255");
  }
}

}  // namespace

WeightCodes::WeightCodes(const ArrayView& codes, const ConvShape& s)
    : out_channels_(s.out_channels),
      taps_(s.taps()),
      channels_(s.of_group().in_channels),
      step_(round_up(channels_, 4)) {
  const int64_t n = codes.elements();
  if (n != out_channels_ * taps_ * channels_) {
    throw Error("weight: " + std::to_string(n) + " codes; the shape of the layer asks for " +
                std::to_string(out_channels_ * taps_ * channels_));
  }
  if (codes.dtype != Dtype::kInt8 && codes.dtype != Dtype::kInt16) {
    throw Error("weight: " + codes.describe() + "; codes are int8 or int16");
  }
  const Range range = codes.dtype == Dtype::kInt8 ? range_of<int8_t>(codes) : range_of<int16_t>(codes);
  halved_ = range.low < kLowest || range.high > kHighest;
  if (halved_) check_halves(range);
  largest_ = std::max(-range.low, range.high);
  if (range.odd && !halved_) {
    while ((1 << odd_bits_) - 1 < largest_) ++odd_bits_;
  }
  if (codes.dtype == Dtype::kInt8 && step_ == channels_) {
    data_ = static_cast<const int8_t*>(codes.data);
    return;
  }
  own_ = Scratch<int8_t>(out_channels_ * taps_ * step_);
  data_ = own_.data();
  for (int64_t row = 0; row < out_channels_ * taps_; ++row) {
    int8_t* to = own_.data() + row * step_;
    std::memset(to + channels_, 0, static_cast<size_t>(step_ - channels_));
    for (int64_t c = 0; c < channels_; ++c) {
      const int64_t at = row * channels_ + c;
      const int code = codes.dtype == Dtype::kInt8 ? static_cast<const int8_t*>(codes.data)[at]
                                                   : static_cast<const int16_t*>(codes.data)[at];
      to[c] = static_cast<int8_t>(halved_ ? (code - 1) / 2 : code);
    }
  }
}

int32_t WeightCodes::largest_product(int64_t level) const {
  const int64_t stored = halved_ ? (largest_ + 1) / 2 : largest_;
  return static_cast<int32_t>(std::max<int64_t>(1, level * stored));
}

std::vector<int32_t> WeightCodes::sums(int64_t first, int64_t count) const {
  std::vector<int32_t> padded(static_cast<size_t>(taps_ * step_), 0);
  for (int64_t o = first; o < first + count; ++o) {
    const int8_t* codes = of(o, 0);
    for (int64_t i = 0; i < taps_ * step_; ++i) padded[i] += codes[i];
  }
  std::vector<int32_t> sums(static_cast<size_t>(taps_ * channels_));
  for (int64_t tap = 0; tap < taps_; ++tap) {
    for (int64_t c = 0; c < channels_; ++c) {
      const int64_t sum = padded[tap * step_ + c];
      sums[tap * channels_ + c] = static_cast<int32_t>(halved_ ? 2 * sum + count : sum);
    }
  }
  return sums;
}

Scratch<int8_t> pack_forward(const WeightCodes& codes, const ConvShape& s, int64_t first) {
  const int64_t blocks = blocks_of(s.out_channels), steps = s.kernel.columns * codes.step() / 4;
  const int64_t block = s.kernel.rows * steps * 4 * kTileChannels;
  Scratch<int8_t> packed(blocks * block);
  const int64_t last = (blocks - 1) * block;
  if (channels_in(blocks - 1, s.out_channels) < kTileChannels) {
    std::memset(packed.data() + last, 0, static_cast<size_t>(block));
  }
  for (int64_t o = 0; o < s.out_channels; ++o) {
    const int8_t* from = codes.of(first + o, 0);
    int8_t* to = packed.data() + o / kTileChannels * block + o % kTileChannels * 4;
    for (int64_t step = 0; step < s.kernel.rows * steps; ++step) {
      std::memcpy(to + step * 4 * kTileChannels, from + step * 4, 4);
    }
  }
  return packed;
}

Scratch<int32_t> sums_above(const WeightCodes& codes, const ConvShape& s, int64_t first) {
  const int64_t padded = blocks_of(s.out_channels) * kTileChannels, in_row = s.kernel.columns * codes.step();
  Scratch<int32_t> sums((s.kernel.rows + 1) * padded);
  std::fill(sums.data(), sums.data() + (s.kernel.rows + 1) * padded, 0);
  for (int64_t o = 0; o < s.out_channels; ++o) {
    for (int64_t row = 0; row < s.kernel.rows; ++row) {
      const int8_t* of_row = codes.of(first + o, row * s.kernel.columns);
      int32_t sum = 0;
      for (int64_t i = 0; i < in_row; ++i) sum += of_row[i];
      if (codes.halved()) sum = static_cast<int32_t>(2 * sum + s.kernel.columns * s.in_channels);
      sums[(row + 1) * padded + o] = sums[row * padded + o] + sum;
    }
  }
  return sums;
}

std::vector<Phase> phases_of(int64_t in, int64_t kernel, int64_t stride, int64_t padding) {
  std::vector<Phase> phases;
  for (int64_t at = 0; at < stride; ++at) {
    const int64_t first = ((at - padding) % stride + stride) % stride;
    if (first >= in) continue;
    const int64_t taps = at < kernel ? (kernel - 1 - at) / stride + 1 : 0;
    const int64_t last_tap = at + (taps - 1) * stride;
    phases.push_back(
        {first, (in - 1 - first) / stride + 1, (first + padding - at) / stride - (taps - 1), taps, last_tap});
  }
  return phases;
}

Scratch<int8_t> pack_backward(const TrainingKernels& kernels, const WeightCodes& codes, const ConvShape& s,
                              int64_t first, const Phase& rows, const Phase& columns) {
  constexpr int64_t kStep = 4 * kTileChannels;
  const int64_t blocks = blocks_of(s.in_channels), groups = ceil_div(s.out_channels, 4);
  Scratch<int8_t> packed(blocks * rows.taps * columns.taps * groups * kStep);
  auto* to = reinterpret_cast<uint8_t*>(packed.data());
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t t = 0; t < rows.taps; ++t) {
      for (int64_t u = 0; u < columns.taps; ++u) {
        const int64_t tap = rows.tap(t, s.stride.rows) * s.kernel.columns + columns.tap(u, s.stride.columns);
        for (int64_t o = 0; o < s.out_channels; o += 4, to += kStep) {
          const uint8_t* of[4];
          for (int64_t k = 0; k < 4; ++k) {
            of[k] = o + k < s.out_channels
                        ? reinterpret_cast<const uint8_t*>(codes.of(first + o + k, tap)) + block * kTileChannels
                        : nullptr;
          }
          kernels.interleave(of, channels_in(block, s.in_channels), to);
        }
      }
    }
  }
  return packed;
}

}  // namespace bitorch
