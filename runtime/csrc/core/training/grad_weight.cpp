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

// A job is the sums of one block of output channels, one row of the kernel and up to six pairs of an input channel and
// a column of the kernel: 6 x 64 of them. Sums never meet, so that the number of threads changes none.
//
//   samples of a block x jobs of an item x samples: the gradient of some samples is read again from the level 2 cache
constexpr int64_t kTaps = 6, kSamples = 8, kItemJobs = 16;

class GradWeight {
 public:
  explicit GradWeight(const GradWeightArgs& args)
      : a_(args),
        s_(args.shape),
        pairs_(s_.in_channels * s_.kernel.columns),
        tiles_(ceil_div(pairs_, kTaps)),
        row_jobs_(ceil_div(tiles_, kItemJobs)) {
    for (int64_t c = 0; c < s_.in_channels; ++c) {
      for (int64_t k = 0; k < s_.kernel.columns; ++k) {
        offsets_.push_back(c * args.layout->planes * args.layout->width + args.layout->tap(k));
      }
    }
    for (int i = 0; i < args.threads; ++i) rooms_.emplace_back(kItemJobs * kTaps * kTileChannels);
  }

  void run() {
    const int64_t items = blocks_of(s_.out_channels) * s_.kernel.rows * row_jobs_;
    for_items(items, a_.threads, [this](int slot, int64_t item) { run_item(rooms_[slot].data(), item); });
  }

 private:
  void run_item(float* sums, int64_t item) {
    const int64_t block = item / (s_.kernel.rows * row_jobs_), row = item / row_jobs_ % s_.kernel.rows;
    const int64_t first = item % row_jobs_ * kItemJobs, last = std::min(first + kItemJobs, tiles_);
    std::memset(sums, 0, static_cast<size_t>((last - first) * kTaps * kTileChannels) * sizeof(float));
    for (int64_t sample = 0; sample < s_.batch; sample += kSamples) {
      for (int64_t tile = first; tile < last; ++tile) {
        float* to = sums + (tile - first) * kTaps * kTileChannels;
        for (int64_t s = sample; s < std::min(sample + kSamples, s_.batch); ++s) add(s, block, row, tile, to);
      }
    }
    for (int64_t tile = first; tile < last; ++tile) {
      write(sums + (tile - first) * kTaps * kTileChannels, block, row, tile);
    }
  }

  void add(int64_t sample, int64_t block, int64_t row, int64_t tile, float* sums) const {
    const Extent out = s_.out();
    const int64_t groups = ceil_div(out.columns, 4), group_row = groups * 4 * kTileChannels;
    // Output rows whose window has this row of the kernel on a row of x.
    const int64_t over = s_.padding.rows - row;
    const int64_t from = over > 0 ? ceil_div(over, s_.stride.rows) : 0;
    const int64_t to = std::min(out.rows, s_.in.rows - 1 + over < 0 ? 0 : (s_.in.rows - 1 + over) / s_.stride.rows + 1);
    const int64_t rows = std::max<int64_t>(0, to - from);
    const int64_t pair = tile * kTaps;
    const uint8_t* q = a_.layout->codes_of(a_.saved, sample);
    const int32_t* halves =
        a_.halves == nullptr ? nullptr : a_.halves + (sample * s_.kernel.rows + row) * pairs_ + pair;
    const int8_t* g = a_.groups + sample * groups_bytes(s_) + block * out.rows * group_row;
    const WeightDots dots{rows == 0 ? q : q + (from * s_.stride.rows - over) * a_.layout->row,
                          s_.stride.rows * a_.layout->row,
                          offsets_.data() + pair,
                          rows == 0 ? g : g + from * group_row,
                          static_cast<int32_t>(rows),
                          static_cast<int32_t>(groups),
                          static_cast<int32_t>(std::min(kTaps, pairs_ - pair)),
                          channels_in(block, s_.out_channels),
                          a_.scale[sample],
                          halves,
                          sums};
    a_.kernels->weight_dots(&dots);
  }

  // From [channel and column][64] to [out channel][row][column][channel].
  void write(const float* sums, int64_t block, int64_t row, int64_t tile) const {
    for (int64_t i = 0; i < std::min(kTaps, pairs_ - tile * kTaps); ++i) {
      const int64_t pair = tile * kTaps + i;
      const int64_t channel = pair / s_.kernel.columns, column = pair % s_.kernel.columns;
      for (int32_t o = 0; o < channels_in(block, s_.out_channels); ++o) {
        const int64_t out_channel = block * kTileChannels + o;
        const int64_t tap = (out_channel * s_.kernel.rows + row) * s_.kernel.columns + column;
        a_.dw[tap * s_.in_channels + channel] = a_.input_scale * sums[i * kTileChannels + o];
      }
    }
  }

  const GradWeightArgs& a_;
  const ConvShape& s_;
  int64_t pairs_, tiles_, row_jobs_;
  std::vector<int64_t> offsets_;
  std::vector<Scratch<float>> rooms_;
};

}  // namespace

void grad_weight(const GradWeightArgs& args) { GradWeight(args).run(); }

}  // namespace bitorch
