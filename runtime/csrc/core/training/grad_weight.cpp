#include "core/training/grad_weight.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/checked.h"
#include "core/training/images.h"
#include "core/training/scratch.h"
#include "core/training/tiles.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

// A tile is the sums of one block of output channels, one row of the kernel and up to six pairs of an input channel and
// a column of the kernel: 6 x 64 of them. An item is eight tiles, whose sums stay in the level 1 cache beside the
// gradients of some samples, which all of them read. Sums never meet, so that the number of threads changes none.
constexpr int64_t kTaps = 6, kItemTiles = 8;
constexpr int64_t kItemGradients = 12 << 10;  // bytes

class GradWeight {
 public:
  explicit GradWeight(const GradWeightArgs& args)
      : a_(args),
        s_(args.shape.of_group()),
        channel_groups_(args.shape.groups),
        pairs_(s_.in_channels * s_.kernel.columns),
        tiles_(ceil_div(pairs_, kTaps)),
        row_items_(ceil_div(tiles_, kItemTiles)),
        groups_(ceil_div(s_.out().columns, 4)),
        padded_(blocks_of(s_.out_channels) * kTileChannels) {
    for (int64_t c = 0; c < s_.in_channels; ++c) {
      for (int64_t k = 0; k < s_.kernel.columns; ++k) {
        offsets_.push_back(c * args.layout->planes * args.layout->width + args.layout->tap(k));
      }
    }
    for (int i = 0; i < args.threads; ++i) rooms_.emplace_back(kItemTiles * kTaps * kTileChannels);
  }

  void run() {
    const int64_t items = blocks_of(s_.out_channels) * s_.kernel.rows * row_items_;
    for_items(channel_groups_ * items, a_.threads,
              [this, items](int slot, int64_t item) { run_item(rooms_[slot].data(), item / items, item % items); });
  }

 private:
  void run_item(float* sums, int64_t group, int64_t item) {
    const int64_t block = item / (s_.kernel.rows * row_items_), row = item / row_items_ % s_.kernel.rows;
    const int64_t first = item % row_items_ * kItemTiles, last = std::min(first + kItemTiles, tiles_);
    const Item same = item_of(group, block, row);
    std::memset(sums, 0, static_cast<size_t>((last - first) * kTaps * kTileChannels) * sizeof(float));
    const int64_t bytes = std::max<int64_t>(1, same.rows * groups_ * 4 * kTileChannels);
    const int64_t step = std::max<int64_t>(1, kItemGradients / bytes);
    for (int64_t sample = 0; sample < s_.batch; sample += step) {
      const int64_t samples = std::min(step, s_.batch - sample);
      for (int64_t tile = first; tile < last; ++tile) {
        add(same, sample, samples, tile, sums + (tile - first) * kTaps * kTileChannels);
      }
    }
    write(sums, same, first * kTaps, std::min(last * kTaps, pairs_));
  }

  // What is the same for all samples and tiles of an item.
  struct Item {
    int64_t group, block, row;
    int64_t in, groups;  // bytes to the first row of x, and of the gradient, within a sample's
    int32_t rows;
  };

  Item item_of(int64_t group, int64_t block, int64_t row) const {
    const Extent out = s_.out();
    const int64_t group_row = groups_ * 4 * kTileChannels;
    const TapRange met = output_rows(s_, row);
    if (met.count == 0) return {group, block, row, 0, 0, 0};
    const int64_t in_row = met.first * s_.stride.rows + row - s_.padding.rows;
    const int64_t channel = group * s_.in_channels * a_.layout->planes * a_.layout->width;
    return {group,
            block,
            row,
            in_row * a_.layout->row + channel,
            group * groups_bytes(s_) + (block * out.rows + met.first) * group_row,
            static_cast<int32_t>(met.count)};
  }

  void add(const Item& item, int64_t sample, int64_t samples, int64_t tile, float* sums) const {
    const int64_t pair = tile * kTaps, rows = s_.kernel.rows * channel_groups_;
    const int64_t row = sample * rows + item.row * channel_groups_ + item.group;
    const int64_t sample_groups = channel_groups_ * groups_bytes(s_);
    const WeightDots dots{a_.layout->codes_of(a_.saved, sample) + item.in,
                          s_.stride.rows * a_.layout->row,
                          a_.layout->codes,
                          offsets_.data() + pair,
                          a_.groups + sample * sample_groups + item.groups,
                          sample_groups,
                          item.rows,
                          static_cast<int32_t>(groups_),
                          static_cast<int32_t>(std::min(kTaps, pairs_ - pair)),
                          channels_in(item.block, s_.out_channels),
                          samples,
                          a_.scale + sample,
                          a_.halves == nullptr ? nullptr : a_.halves + row * pairs_ + pair,
                          rows * pairs_,
                          a_.borders == nullptr ? nullptr : a_.borders + row * padded_ + item.block * kTileChannels,
                          rows * padded_,
                          sums,
                          a_.largest};
    a_.kernels->weight_dots(&dots);
  }

  // Pairs first .. last-1, from [channel and column][64] to [out channel][row][column][channel].
  void write(const float* sums, const Item& item, int64_t first, int64_t last) const {
    const int64_t columns = s_.kernel.columns;
    const int64_t out_channel = item.group * s_.out_channels + item.block * kTileChannels;
    for (int64_t pair = first; pair < std::min(first + columns, last); ++pair) {
      const int64_t tap = (out_channel * s_.kernel.rows + item.row) * columns + pair % columns;
      const Transpose transpose{sums + (pair - first) * kTileChannels,
                                columns * kTileChannels,
                                ceil_div(last - pair, columns),
                                channels_in(item.block, s_.out_channels),
                                a_.input_scale,
                                a_.dw + tap * s_.in_channels + pair / columns,
                                s_.taps() * s_.in_channels};
      a_.kernels->transpose(&transpose);
    }
  }

  const GradWeightArgs& a_;
  ConvShape s_;  // of a group
  int64_t channel_groups_, pairs_, tiles_, row_items_, groups_, padded_;
  std::vector<int64_t> offsets_;
  std::vector<Scratch<float>> rooms_;
};

}  // namespace

TapRange output_rows(const ConvShape& s, int64_t kernel_row) {
  const int64_t over = s.padding.rows - kernel_row;
  const int64_t from = over > 0 ? ceil_div(over, s.stride.rows) : 0;
  const int64_t last = s.in.rows - 1 + over;
  const int64_t to = last < 0 ? 0 : std::min(s.out().rows, last / s.stride.rows + 1);
  return {from, std::max<int64_t>(to - from, 0)};
}

void grad_weight(const GradWeightArgs& args) { GradWeight(args).run(); }

}  // namespace bitorch
