#include "core/training/backward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "core/base/checked.h"
#include "core/training/forward.h"
#include "core/training/grad_input.h"
#include "core/training/grad_weight.h"
#include "core/training/gradient.h"
#include "core/training/images.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

// What one thread works in.
struct BackwardRoom {
  Scratch<uint8_t> levels;
  Scratch<int8_t> codes;
  Scratch<int32_t> rows, row_sums;
  GradInput::Room input;
};

class ConvBackward {
 public:
  explicit ConvBackward(const BackwardArgs& args)
      : a_(args),
        s_(args.shape),
        of_group_(s_.of_group()),
        layout_(s_, args.masked),
        scale_(s_.batch),
        has_halves_(args.gradient.halved()) {
    for (int64_t group = 0; args.dx != nullptr && group < s_.groups; ++group) {
      inputs_.emplace_back(*args.kernels, s_, *args.weight, args.gradient, group);
    }
    taps_ = s_.kernel.rows * s_.in_channels * s_.kernel.columns;
    if (args.dw != nullptr) groups_ = Scratch<int8_t>(s_.batch * s_.groups * groups_bytes(of_group_));
    if (args.dw != nullptr && has_halves_) {
      tap_sums_ = std::make_unique<TapSums>(*args.kernels, s_, layout_);
      halves_ = Scratch<int32_t>(s_.batch * taps_);
    }
    if (args.dw != nullptr && args.input.low != 0) {
      padded_ = blocks_of(of_group_.out_channels) * kTileChannels;
      borders_ = Scratch<int32_t>(s_.batch * s_.kernel.rows * s_.groups * padded_);
    }
    if (args.dbias != nullptr) bias_ = Scratch<int32_t>(s_.batch * s_.out_channels);
    for (int i = 0; i < args.threads; ++i) rooms_.push_back(make_room());
  }

  void run() {
    for_items(s_.batch, a_.threads, [this](int slot, int64_t sample) { run_sample(rooms_[slot], sample); });
    if (a_.dbias != nullptr) add_bias();
    if (a_.dw == nullptr) return;
    const GradWeightArgs weight{a_.kernels,
                                s_,
                                &layout_,
                                a_.saved,
                                groups_.data(),
                                scale_.data(),
                                has_halves_ ? halves_.data() : nullptr,
                                borders_.data(),
                                a_.input_scale,
                                a_.dw,
                                a_.input.largest() * a_.gradient.largest_byte(),
                                a_.threads};
    grad_weight(weight);
  }

 private:
  BackwardRoom make_room() const {
    BackwardRoom room{Scratch<uint8_t>(s_.outputs()), Scratch<int8_t>(s_.outputs()), {}, {}, {}};
    if (a_.dx != nullptr) room.input = inputs_[0].make_room();
    if (a_.dw != nullptr && has_halves_) room.rows = Scratch<int32_t>(tap_sums_->scratch());
    if (a_.dbias != nullptr || borders_.data() != nullptr)
      room.row_sums = Scratch<int32_t>(s_.out().rows * s_.out_channels);
    return room;
  }

  void run_sample(const BackwardRoom& room, int64_t sample) {
    const float* g = a_.g + sample * s_.outputs();
    const float scale = sample_codes(*a_.kernels, a_.gradient, g, sample, s_.outputs(),
                                     !has_halves_ && !a_.gradient.has_zero, room.levels.data(), room.codes.data());
    scale_[sample] = scale;
    if (room.row_sums.data() != nullptr) sum_codes(room, sample);
    if (a_.dw != nullptr) {
      for (int64_t group = 0; group < s_.groups; ++group) {
        put_groups(*a_.kernels, of_group_, room.codes.data() + group * of_group_.out_channels, s_.out_channels,
                   groups_.data() + (sample * s_.groups + group) * groups_bytes(of_group_));
      }
      if (has_halves_) {
        tap_sums_->run(layout_.codes_of(a_.saved, sample), a_.input.largest(), room.rows.data(),
                       halves_.data() + sample * taps_);
      }
    }
    for (const GradInput& input : inputs_) {
      input.run(room.input, room.levels.data(), scale * a_.weight_scale, layout_.mask_of(a_.saved, sample),
                a_.dx + sample * s_.inputs());
    }
  }

  // Of all pixels, for the bias; of the rows that each row of the kernel meets, for what sums of bytes lack.
  void sum_codes(const BackwardRoom& room, int64_t sample) {
    sum_rows(room.levels.data(), room.row_sums.data());
    const TapRange all{0, s_.out().rows};
    if (a_.dbias != nullptr)
      add_rows(room.row_sums.data(), all, 1, bias_.data() + sample * s_.out_channels, s_.out_channels);
    if (borders_.data() == nullptr) return;
    for (int64_t row = 0; row < s_.kernel.rows; ++row) {
      for (int64_t group = 0; group < s_.groups; ++group) {
        add_rows(room.row_sums.data() + group * of_group_.out_channels, output_rows(s_, row), a_.input.low,
                 borders_.data() + ((sample * s_.kernel.rows + row) * s_.groups + group) * padded_,
                 of_group_.out_channels);
      }
    }
  }

  // Sums of codes, [out.rows][out_channels].
  void sum_rows(const uint8_t* levels, int32_t* sums) const {
    const int64_t channels = s_.out_channels, columns = s_.out().columns;
    const auto less = static_cast<int32_t>(columns * a_.gradient.n());
    for (int64_t y = 0; y < s_.out().rows; ++y, sums += channels) {
      std::memset(sums, 0, static_cast<size_t>(channels) * sizeof(int32_t));
      for (int64_t x = 0; x < columns; ++x, levels += channels) {
        for (int64_t o = 0; o < channels; ++o) sums[o] += levels[o];
      }
      for (int64_t o = 0; o < channels; ++o) sums[o] = a_.gradient.multiple() * sums[o] - less;
    }
  }

  // Of the first `channels` of each row.
  void add_rows(const int32_t* rows, const TapRange& of, int32_t factor, int32_t* sums, int64_t channels) const {
    std::memset(sums, 0, static_cast<size_t>(channels) * sizeof(int32_t));
    for (int64_t y = of.first; y < of.first + of.count; ++y) {
      for (int64_t o = 0; o < channels; ++o) sums[o] += factor * rows[y * s_.out_channels + o];
    }
  }

  void add_bias() const {
    for (int64_t o = 0; o < s_.out_channels; ++o) {
      float sum = 0;
      for (int64_t s = 0; s < s_.batch; ++s) {
        sum = std::fma(static_cast<float>(bias_[s * s_.out_channels + o]), scale_[s], sum);
      }
      a_.dbias[o] = sum;
    }
  }

  const BackwardArgs& a_;
  const ConvShape& s_;
  ConvShape of_group_;
  SavedLayout layout_;
  Scratch<float> scale_;
  bool has_halves_;
  int64_t taps_ = 0, padded_ = 0;
  std::vector<GradInput> inputs_;  // of each group
  std::unique_ptr<TapSums> tap_sums_;
  Scratch<int8_t> groups_;
  Scratch<int32_t> halves_, bias_, borders_;
  std::vector<BackwardRoom> rooms_;
};

}  // namespace

void conv_backward(const BackwardArgs& args) {
  const ConvShape& s = args.shape;
  const int64_t pixels = s.out().rows * s.out().columns;
  if (args.dx != nullptr) {
    check_sums("the gradient of x", s.taps() * s.of_group().out_channels, args.weight->largest(),
               args.gradient.largest());
  }
  // Where low counts, levels of the gradient are summed and doubled, too.
  const int input = args.input.low == 0 ? args.input.largest() : std::max(2, args.input.largest());
  if (args.dw != nullptr) check_sums("the gradient of the weight", pixels, input, args.gradient.largest());
  if (args.dbias != nullptr) check_sums("the gradient of the bias", pixels, 2, args.gradient.largest());
  ConvBackward(args).run();
}

}  // namespace bitorch
