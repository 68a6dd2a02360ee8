#include "core/training/backward.h"

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

// Codes of 2i + 1 are bytes up to 7 bits.
bool codes_are_odd(const GradientSpec& spec) { return spec.bits < 8; }

// What one thread works in.
struct BackwardRoom {
  Scratch<uint8_t> levels;
  Scratch<int8_t> codes;
  Scratch<int32_t> rows;
  GradInput::Room input;
};

class ConvBackward {
 public:
  explicit ConvBackward(const BackwardArgs& args)
      : a_(args),
        s_(args.shape),
        layout_(s_, args.masked),
        scale_(s_.batch),
        has_halves_(!codes_are_odd(args.gradient)) {
    if (args.dx != nullptr)
      input_ = std::make_unique<GradInput>(*args.kernels, s_, *args.weight, args.gradient.levels());
    taps_ = s_.kernel.rows * s_.in_channels * s_.kernel.columns;
    if (args.dw != nullptr) groups_ = Scratch<int8_t>(s_.batch * groups_bytes(s_));
    if (args.dw != nullptr && has_halves_) {
      tap_sums_ = std::make_unique<TapSums>(*args.kernels, s_, layout_);
      halves_ = Scratch<int32_t>(s_.batch * taps_);
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
                                a_.input_scale,
                                a_.dw,
                                a_.threads};
    grad_weight(weight);
  }

 private:
  BackwardRoom make_room() const {
    BackwardRoom room{Scratch<uint8_t>(s_.outputs()), Scratch<int8_t>(s_.outputs()), {}, {}};
    if (a_.dx != nullptr) room.input = input_->make_room();
    if (a_.dw != nullptr && has_halves_) room.rows = Scratch<int32_t>(tap_sums_->scratch());
    return room;
  }

  void run_sample(const BackwardRoom& room, int64_t sample) {
    const float* g = a_.g + sample * s_.outputs();
    const float scale = sample_codes(*a_.kernels, a_.gradient, g, sample, s_.outputs(), !has_halves_,
                                     room.levels.data(), room.codes.data());
    scale_[sample] = scale;
    if (a_.dbias != nullptr) sum_channels(room.levels.data(), bias_.data() + sample * s_.out_channels);
    if (a_.dw != nullptr) {
      put_groups(*a_.kernels, s_, room.codes.data(), groups_.data() + sample * groups_bytes(s_));
      if (has_halves_) {
        tap_sums_->run(layout_.codes_of(a_.saved, sample), room.rows.data(), halves_.data() + sample * taps_);
      }
    }
    if (a_.dx != nullptr) {
      input_->run(room.input, room.levels.data(), scale * a_.weight_scale, layout_.mask_of(a_.saved, sample),
                  a_.dx + sample * s_.inputs());
    }
  }

  // Sums of 2j - levels.
  void sum_channels(const uint8_t* levels, int32_t* sums) const {
    const int64_t pixels = s_.out().rows * s_.out().columns;
    std::memset(sums, 0, static_cast<size_t>(s_.out_channels) * sizeof(int32_t));
    for (int64_t i = 0; i < pixels; ++i) {
      for (int64_t o = 0; o < s_.out_channels; ++o) sums[o] += levels[i * s_.out_channels + o];
    }
    const auto less = static_cast<int32_t>(pixels * a_.gradient.levels());
    for (int64_t o = 0; o < s_.out_channels; ++o) sums[o] = 2 * sums[o] - less;
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
  SavedLayout layout_;
  Scratch<float> scale_;
  bool has_halves_;
  int64_t taps_ = 0;
  std::unique_ptr<GradInput> input_;
  std::unique_ptr<TapSums> tap_sums_;
  Scratch<int8_t> groups_;
  Scratch<int32_t> halves_, bias_;
  std::vector<BackwardRoom> rooms_;
};

}  // namespace

void conv_backward(const BackwardArgs& args) {
  const ConvShape& s = args.shape;
  const int64_t pixels = s.out().rows * s.out().columns;
  if (args.dx != nullptr) {
    check_sums("the gradient of x", s.taps() * s.out_channels, args.weight->largest(), args.gradient.levels());
  }
  if (args.dw != nullptr) check_sums("the gradient of the weight", pixels, args.levels, args.gradient.levels());
  if (args.dbias != nullptr) check_sums("the gradient of the bias", pixels, 2, args.gradient.levels());
  ConvBackward(args).run();
}

}  // namespace bitorch
