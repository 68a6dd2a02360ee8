// Linear layers: one pixel for each sample, so that tiles are of samples, and the gradient of the weight is an outer
// product of the batch.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "core/base/checked.h"
#include "core/training/backward.h"
#include "core/training/forward.h"
#include "core/training/forward_planes.h"
#include "core/training/gradient.h"
#include "core/training/tiles.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

// Samples of one item: four tiles, and whole ones.
constexpr int64_t kItemSamples = 4 * kTilePixels;

// Rows of bytes, one for each sample, and what the kernels need of their sums.
struct Rows {
  const uint8_t* bytes;
  int64_t step;
  const int32_t* sums;  // of each row, where weight codes are halved; or null
  int32_t largest;      // product of a byte and what stands for a weight's code
};

void sum_rows(const uint8_t* bytes, int64_t step, int64_t rows, int32_t* sums) {
  for (int64_t i = 0; i < rows; ++i) {
    int32_t sum = 0;
    for (int64_t c = 0; c < step; ++c) sum += bytes[i * step + c];
    sums[i] = sum;
  }
}

// run(block, first, count) for all parts of rows x blocks of 64 channels.
template <class F>
void for_parts(int64_t rows, int64_t channels, int threads, const F& run) {
  const int64_t parts = ceil_div(rows, kItemSamples);
  for_items(blocks_of(channels) * parts, threads, [&](int, int64_t item) {
    const int64_t first = item % parts * kItemSamples;
    run(item / parts, first, std::min(kItemSamples, rows - first));
  });
}

// finish(tile, sample, count, block, channels) for all tiles of rows x blocks of 64 channels.
template <class F>
void for_blocks(const TrainingKernels& kernels, const Rows& rows, const int8_t* packed, int64_t batch, int64_t channels,
                int threads, const F& finish) {
  for_parts(batch, channels, threads, [&](int64_t block, int64_t first, int64_t count) {
    const int32_t of_block = channels_in(block, channels);
    const TileRow row{rows.bytes + first * rows.step,
                      0,
                      rows.step,
                      packed + block * rows.step * kTileChannels,
                      0,
                      1,
                      rows.step / 4,
                      count,
                      of_block,
                      rows.largest};
    for_tiles(kernels, row, [&](const int32_t* tile, int64_t sample, int32_t samples) {
      finish(tile, first + sample, samples, block, of_block);
    });
  });
}

// Returns whether x holds a NaN.
bool quantize_rows(const ForwardArgs& a, const LinearSaved& layout, uint8_t* codes) {
  const int64_t inputs = a.shape.in_channels;
  std::atomic<bool> nan{false};
  std::unique_ptr<NormQuantizer> norm;
  std::vector<NormQuantizer::Room> rooms;
  if (a.norm != nullptr) {
    norm = std::make_unique<NormQuantizer>(*a.norm, a.input.levels);
    for (int i = 0; i < a.threads; ++i) rooms.push_back(norm->make_room());
  }
  for_items(a.shape.batch, a.threads, [&](int slot, int64_t sample) {
    uint8_t* to = codes + sample * layout.step;
    uint8_t* mask = layout.mask == 0 || a.saved == nullptr ? nullptr : codes + layout.codes + sample * layout.mask;
    std::memset(to + inputs, 0, static_cast<size_t>(layout.step - inputs));
    if (norm != nullptr) {
      norm->run(rooms[slot], sample, to, mask);
      return;
    }
    const float* x = a.x + sample * inputs;
    if (a.input.take(*a.kernels, x, inputs, to, mask) != 0) {
      nan.store(true, std::memory_order_relaxed);
    }
  });
  return nan.load(std::memory_order_relaxed);
}

// What sums of bytes lack, of each output channel.
Scratch<int32_t> border_of(const ForwardArgs& a) {
  const int64_t padded = blocks_of(a.shape.out_channels) * kTileChannels;
  const Scratch<int32_t> above = sums_above(*a.weight, a.shape, 0);
  Scratch<int32_t> border(padded);
  for (int64_t o = 0; o < padded; ++o) border[o] = a.input.low * above[padded + o];
  return border;
}

// finish(tile, sums, sample, count, block) for all tiles of codes x weight; sums are `halves` of FinishForward.
template <class F>
void multiply_rows(const ForwardArgs& a, const LinearSaved& layout, const uint8_t* codes, const F& finish) {
  const ConvShape& s = a.shape;
  if (planes_pay(*a.kernels, s, *a.weight, a.input)) {
    const ForwardPlanes planes(*a.kernels, row_of_samples(s), *a.weight, a.input);
    const ForwardPlanes::Room room = planes.make_room();
    for_items(s.batch, a.threads,
              [&](int, int64_t sample) { planes.put(room, codes + sample * layout.step, layout.step, 0, sample, 1); });
    planes.sum_windows(room);
    for_parts(s.batch, s.out_channels, a.threads, [&](int64_t block, int64_t first, int64_t count) {
      planes.for_tiles(room, block, 0, first, count, [&](const int32_t* tile, int64_t sample, int32_t samples) {
        finish(tile, room.halves.data(), sample, samples, block);
      });
    });
    return;
  }
  Scratch<int32_t> halves;
  if (a.weight->halved()) {
    halves = Scratch<int32_t>(s.batch);
    sum_rows(codes, layout.step, s.batch, halves.data());
  }
  const Scratch<int8_t> packed = pack_forward(*a.weight, s, 0);
  const Rows rows{codes, layout.step, a.weight->halved() ? halves.data() : nullptr,
                  a.weight->largest_product(a.input.largest())};
  for_blocks(*a.kernels, rows, packed.data(), s.batch, s.out_channels, a.threads,
             [&](const int32_t* tile, int64_t sample, int32_t count, int64_t block, int32_t) {
               finish(tile, rows.sums, sample, count, block);
             });
}

class LinearBackward {
 public:
  explicit LinearBackward(const BackwardArgs& args)
      : a_(args),
        s_(args.shape),
        layout_(s_.batch, s_.in_channels, args.masked),
        step_(round_up(s_.out_channels, 4)),
        levels_(s_.batch * step_),
        codes_(s_.batch * s_.out_channels),
        scale_(s_.batch) {}

  void run() {
    for_items(s_.batch, a_.threads, [this](int, int64_t sample) { quantize(sample); });
    if (a_.dx != nullptr) input();
    if (a_.dw != nullptr) weight();
    if (a_.dbias != nullptr) bias();
  }

 private:
  void quantize(int64_t sample) {
    const int64_t outputs = s_.out_channels;
    uint8_t* levels = levels_.data() + sample * step_;
    std::memset(levels + outputs, 0, static_cast<size_t>(step_ - outputs));
    scale_[sample] = sample_codes(*a_.kernels, a_.gradient, a_.g + sample * outputs, sample, outputs, false, levels,
                                  codes_.data() + sample * outputs);
  }

  void input() const {
    const int64_t channels = s_.in_channels, padded = blocks_of(channels) * kTileChannels;
    const Phase phase = phases_of(1, 1, 1, 0)[0];
    const Scratch<int8_t> packed = pack_backward(*a_.kernels, *a_.weight, s_, 0, phase, phase);
    std::vector<int32_t> border = a_.weight->sums(0, s_.out_channels);
    border.resize(static_cast<size_t>(padded), 0);
    for (int32_t& sum : border) sum *= -a_.gradient.n();
    std::vector<int32_t> halves;
    if (a_.weight->halved()) {
      halves.resize(static_cast<size_t>(s_.batch));
      sum_rows(levels_.data(), step_, s_.batch, halves.data());
    }
    std::vector<float> scale(static_cast<size_t>(s_.batch));
    for (int64_t i = 0; i < s_.batch; ++i) scale[i] = scale_[i] * a_.weight_scale;
    const Rows rows{levels_.data(), step_, halves.empty() ? nullptr : halves.data(),
                    a_.weight->largest_product(a_.gradient.largest())};
    const uint8_t* mask = layout_.mask == 0 ? nullptr : a_.saved + layout_.codes;
    for_blocks(*a_.kernels, rows, packed.data(), s_.batch, channels, a_.threads,
               [&](const int32_t* tile, int64_t sample, int32_t count, int64_t block, int32_t of_block) {
                 const int32_t* borders[kTilePixels];
                 std::fill(borders, borders + count, border.data() + block * kTileChannels);
                 const FinishGradient finish{tile,
                                             rows.sums == nullptr ? nullptr : rows.sums + sample,
                                             a_.gradient.multiple() == 2,
                                             borders,
                                             scale.data() + sample,
                                             1,
                                             mask,
                                             sample * layout_.mask * 8 + block * kTileChannels,
                                             layout_.mask * 8,
                                             a_.dx + sample * channels + block * kTileChannels,
                                             channels,
                                             count,
                                             of_block};
                 a_.kernels->finish_gradient(&finish);
               });
  }

  void weight() const {
    const int64_t outputs = s_.out_channels;
    // [outputs / 6][samples][6]: those of one tile beside each other.
    Scratch<float> values(s_.batch * round_up(outputs, kTilePixels));
    for (int64_t first = 0; first < outputs; first += kTilePixels) {
      float* to = values.data() + first * s_.batch;
      const int64_t count = std::min<int64_t>(kTilePixels, outputs - first);
      for (int64_t s = 0; s < s_.batch; ++s, to += kTilePixels) {
        const int8_t* codes = codes_.data() + s * outputs + first;
        for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(a_.gradient.code(codes[i])) * scale_[s];
      }
    }
    std::vector<Scratch<float>> rooms;
    for (int i = 0; i < a_.threads; ++i) rooms.emplace_back(s_.batch * kTileChannels);
    for_items(blocks_of(s_.in_channels), a_.threads,
              [&](int slot, int64_t block) { weight_block(rooms[slot].data(), values.data(), block); });
  }

  void weight_block(float* q, const float* values, int64_t block) const {
    const int32_t channels = channels_in(block, s_.in_channels);
    for (int64_t s = 0; s < s_.batch; ++s) {
      const uint8_t* codes = a_.saved + s * layout_.step + block * kTileChannels;
      float* to = q + s * kTileChannels;
      for (int32_t c = 0; c < channels; ++c) to[c] = static_cast<float>(codes[c] + a_.input.low);
      std::fill(to + channels, to + kTileChannels, 0.0f);
    }
    for (int64_t o = 0; o < s_.out_channels; o += kTilePixels) {
      const OuterProduct outer{q,
                               values + o * s_.batch,
                               kTilePixels,
                               s_.batch,
                               static_cast<int32_t>(std::min<int64_t>(kTilePixels, s_.out_channels - o)),
                               channels,
                               a_.input_scale,
                               a_.dw + o * s_.in_channels + block * kTileChannels,
                               s_.in_channels};
      a_.kernels->outer(&outer);
    }
  }

  void bias() const {
    for (int64_t o = 0; o < s_.out_channels; ++o) {
      float sum = 0;
      for (int64_t s = 0; s < s_.batch; ++s) {
        sum = std::fma(static_cast<float>(a_.gradient.code(codes_[s * s_.out_channels + o])), scale_[s], sum);
      }
      a_.dbias[o] = sum;
    }
  }

  const BackwardArgs& a_;
  const ConvShape& s_;
  LinearSaved layout_;
  int64_t step_;
  Scratch<uint8_t> levels_;
  Scratch<int8_t> codes_;
  Scratch<float> scale_;
};

}  // namespace

LinearSaved::LinearSaved(int64_t batch, int64_t channels, bool masked)
    : step(round_up(channels, 4)), codes(batch * step), mask(masked ? ceil_div(channels, 8) : 0) {
  bytes = codes + batch * mask + 64;
}

bool linear_forward(const ForwardArgs& a) {
  const ConvShape& s = a.shape;
  check_sums("forward", s.in_channels, a.weight->largest(), a.input.largest());
  const LinearSaved layout(s.batch, s.in_channels, a.masked);
  Scratch<uint8_t> own;
  if (a.saved == nullptr) own = Scratch<uint8_t>(layout.codes);
  uint8_t* codes = a.saved == nullptr ? own.data() : a.saved;
  const bool holds_nan = quantize_rows(a, layout, codes);
  const Scratch<int32_t> border = a.input.low == 0 ? Scratch<int32_t>() : border_of(a);
  const Scratch<float> scale = of_blocks(a.scale, a.scale_per_channel, s.out_channels);
  const Scratch<float> bias = a.bias == nullptr ? Scratch<float>() : of_blocks(a.bias, true, s.out_channels);
  multiply_rows(a, layout, codes,
                [&](const int32_t* tile, const int32_t* sums, int64_t sample, int32_t count, int64_t block) {
                  const FinishForward finish{tile,
                                             sums == nullptr ? nullptr : sums + sample,
                                             a.input.low == 0 ? nullptr : border.data() + block * kTileChannels,
                                             scale.data() + block * kTileChannels,
                                             a.bias == nullptr ? nullptr : bias.data() + block * kTileChannels,
                                             a.y + sample * s.out_channels + block * kTileChannels,
                                             s.out_channels,
                                             count,
                                             channels_in(block, s.out_channels)};
                  a.kernels->finish_forward(&finish);
                });
  return holds_nan;
}

void linear_backward(const BackwardArgs& args) {
  if (args.dx != nullptr) {
    check_sums("the gradient of x", args.shape.out_channels, args.weight->largest(), args.gradient.largest());
  }
  LinearBackward(args).run();
}

}  // namespace bitorch
