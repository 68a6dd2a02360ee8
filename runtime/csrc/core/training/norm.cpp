#include "core/training/norm.h"

#include <algorithm>

#include "core/base/checked.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

// Pixels whose sums are of floats.
constexpr int64_t kRun = 128;
// What kernels read beyond the channels of a periodic array.
constexpr int64_t kBeyond = 63;

Scratch<float> periodic(int64_t channels) { return Scratch<float>(channels + kBeyond); }

void repeat(const Scratch<float>& array, int64_t channels) {
  for (int64_t i = 0; i < kBeyond; ++i) array[channels + i] = array[i];
}

Scratch<float> periodic(const float* from, int64_t channels) {
  Scratch<float> array = periodic(channels);
  std::copy(from, from + channels, array.data());
  repeat(array, channels);
  return array;
}

Scratch<float> periodic(float value, int64_t channels) {
  Scratch<float> array = periodic(channels);
  std::fill(array.data(), array.data() + channels + kBeyond, value);
  return array;
}

// Sums of each channel for the parts of a whole, [parts][channels] each.
struct PartMoments {
  Scratch<float> mean, sum, squares;
};

class Backward {
 public:
  explicit Backward(const NormBackwardArgs& args)
      : a_(args),
        s_(args.shape),
        near_(periodic(s_.channels)),
        sums_(2 * s_.batch * s_.channels),
        of_gradient_(periodic(s_.channels)),
        of_input_(periodic(s_.channels)),
        constant_(periodic(s_.channels)) {
    for (int64_t c = 0; c < s_.channels; ++c) near_[c] = static_cast<float>(a_.mean[c]);
    repeat(near_, s_.channels);
    for (int i = 0; i < a_.threads; ++i) rooms_.emplace_back(2 * s_.channels);
  }

  void run() {
    for_items(s_.batch, a_.threads, [this](int slot, int64_t sample) { sum_sample(rooms_[slot], sample); });
    add_samples();
    for_items(s_.batch, a_.threads, [this](int, int64_t sample) { finish_sample(sample); });
  }

 private:
  void sum_sample(const Scratch<float>& room, int64_t sample) {
    double* sums = sums_.data() + 2 * sample * s_.channels;
    std::fill(sums, sums + 2 * s_.channels, 0.0);
    const auto add = [&] {
      for (int64_t i = 0; i < 2 * s_.channels; ++i) sums[i] += room[i];
    };
    if (s_.pools) {
      for (int64_t y = 0; y < s_.out().rows; ++y, add()) sum_windows(room, sample, y);
      return;
    }
    const float *dv = a_.dv + sample * s_.inputs(), *y = a_.y + sample * s_.inputs();
    const int64_t pixels = s_.in.rows * s_.in.columns;
    for (int64_t first = 0; first < pixels; first += kRun) {
      const int64_t at = first * s_.channels;
      const ChannelProducts job{dv + at,
                                y + at,
                                near_.data(),
                                std::min(kRun, pixels - first),
                                s_.channels,
                                room.data(),
                                room.data() + s_.channels};
      a_.kernels->products(&job);
      add();
    }
  }

  void sum_windows(const Scratch<float>& room, int64_t sample, int64_t y) const {
    const int64_t at = pooled_row(sample, y), from = sample * s_.inputs() + 2 * y * row();
    const PoolProducts job{a_.dv + at,       a_.winners + at, a_.y + from, a_.y + from + row(),      near_.data(),
                           s_.out().columns, s_.channels,     room.data(), room.data() + s_.channels};
    a_.kernels->pool_products(&job);
  }

  int64_t row() const { return s_.in.columns * s_.channels; }
  int64_t pooled_row(int64_t sample, int64_t y) const {
    return sample * s_.outputs() + y * s_.out().columns * s_.channels;
  }

  void add_samples() const {
    const double pixels = static_cast<double>(s_.batch) * static_cast<double>(s_.in.rows * s_.in.columns);
    for (int64_t c = 0; c < s_.channels; ++c) {
      double sum = 0, products = 0;
      for (int64_t i = 0; i < s_.batch; ++i) {
        sum += sums_[2 * i * s_.channels + c];
        products += sums_[(2 * i + 1) * s_.channels + c];
      }
      const double off = a_.mean[c] - near_[c];
      const double dgamma = a_.inverse[c] * (products - off * sum);
      const double factor = a_.inverse[c] * (a_.gamma == nullptr ? 1 : a_.gamma[c]);
      const double slope = -factor * a_.inverse[c] * dgamma / pixels;
      of_gradient_[c] = static_cast<float>(factor);
      of_input_[c] = static_cast<float>(slope);
      constant_[c] = static_cast<float>(-factor * sum / pixels - slope * off);
      a_.dgamma[c] = static_cast<float>(dgamma);
      a_.dbeta[c] = static_cast<float>(sum);
    }
    repeat(of_gradient_, s_.channels);
    repeat(of_input_, s_.channels);
    repeat(constant_, s_.channels);
  }

  void finish_sample(int64_t sample) const {
    if (!s_.pools) {
      finish(a_.dv + sample * s_.inputs(), sample * s_.inputs(), s_.inputs());
      return;
    }
    const Extent out = s_.out();
    const int64_t in_windows = 2 * out.columns * s_.channels;
    int64_t from = sample * s_.inputs();
    for (int64_t y = 0; y < out.rows; ++y, from += 2 * row()) {
      const int64_t at = pooled_row(sample, y), lower = from + row();
      const PoolGradient job{a_.dv + at,       a_.winners + at,  a_.y + from,  a_.y + lower,
                             out.columns,      s_.channels,      near_.data(), of_gradient_.data(),
                             of_input_.data(), constant_.data(), a_.dy + from, a_.dy + lower};
      a_.kernels->pool_gradient(&job);
      // No window has an odd last column, nor row.
      finish(nullptr, from + in_windows, row() - in_windows);
      finish(nullptr, lower + in_windows, row() - in_windows);
    }
    finish(nullptr, from, (s_.in.rows - 2 * out.rows) * row());
  }

  // dy of n numbers from `at` on, a pixel's first.
  void finish(const float* dv, int64_t at, int64_t n) const {
    const NormGradient job{
        dv,        a_.y + at, n, s_.channels, near_.data(), of_gradient_.data(), of_input_.data(), constant_.data(),
        a_.dy + at};
    a_.kernels->gradient(&job);
  }

  const NormBackwardArgs& a_;
  const NormShape& s_;
  Scratch<float> near_;   // the mean as a float
  Scratch<double> sums_;  // [batch][2][channels]
  Scratch<float> of_gradient_, of_input_, constant_;
  std::vector<Scratch<float>> rooms_;
};

}  // namespace

const TrainingNormKernels& training_norm_kernels(const TrainingKernels& kernels) {
#if defined(__x86_64__)
  if (&kernels != &kPortableTraining && &kernels != &kAvx2Training) return kAvx512TrainingNorm;
#endif
  static_cast<void>(kernels);
  return kPortableTrainingNorm;
}

void channel_moments(const TrainingNormKernels& kernels, const float* y, int64_t pixels, int64_t channels, int threads,
                     double* mean, double* variance) {
  const int64_t parts = ceil_div(pixels, kRun), numbers = checked_mul(parts, channels, "the sums of channels");
  const PartMoments of{Scratch<float>(numbers), Scratch<float>(numbers), Scratch<float>(numbers)};
  for_items(parts, threads, [&](int, int64_t part) {
    const int64_t first = part * kRun, at = part * channels;
    const ChannelMoments job{y + first * channels, std::min(kRun, pixels - first), channels, of.mean.data() + at,
                             of.sum.data() + at,   of.squares.data() + at};
    kernels.moments(&job);
  });
  const auto length = [&](int64_t part) { return static_cast<double>(std::min(kRun, pixels - part * kRun)); };
  std::fill(mean, mean + channels, 0.0);
  std::fill(variance, variance + channels, 0.0);
  for (int64_t part = 0; part < parts; ++part) {
    for (int64_t c = 0, i = part * channels; c < channels; ++c, ++i) {
      mean[c] += length(part) * static_cast<double>(of.mean[i]) + static_cast<double>(of.sum[i]);
    }
  }
  for (int64_t c = 0; c < channels; ++c) mean[c] /= static_cast<double>(pixels);
  for (int64_t part = 0; part < parts; ++part) {
    for (int64_t c = 0, i = part * channels; c < channels; ++c, ++i) {
      const double off = static_cast<double>(of.mean[i]) - mean[c];
      variance[c] +=
          static_cast<double>(of.squares[i]) + 2 * off * static_cast<double>(of.sum[i]) + length(part) * off * off;
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    variance[c] = variance[c] < 0 ? 0 : variance[c] / static_cast<double>(pixels);  // a NaN stays
  }
}

NormQuantizer::NormQuantizer(const NormInput& input, int levels)
    : a_(input),
      levels_(static_cast<float>(levels)),
      scale_(periodic(input.scale, input.shape.channels)),
      shift_(periodic(input.shift, input.shape.channels)) {
  if (!input.shape.pools) return;
  ones_ = periodic(1.0f, input.shape.channels);
  zeros_ = periodic(0.0f, input.shape.channels);
}

NormQuantizer::Room NormQuantizer::make_room() const {
  if (!a_.shape.pools) return {};
  Room room{Scratch<float>(a_.shape.outputs()), {}};
  if (a_.winners == nullptr) room.winners = Scratch<uint8_t>(a_.shape.outputs());
  return room;
}

void NormQuantizer::run(const Room& room, int64_t sample, uint8_t* codes, uint8_t* mask) const {
  const NormShape& s = a_.shape;
  if (s.pools) pool(room, sample);
  // What was pooled is v already: fma(v, 1, 0).
  const AffineQuantize job{s.pools ? room.largest.data() : a_.y + sample * s.inputs(),
                           s.outputs(),
                           s.channels,
                           s.pools ? ones_.data() : scale_.data(),
                           s.pools ? zeros_.data() : shift_.data(),
                           levels_,
                           a_.positive,
                           codes,
                           mask};
  a_.kernels->quantize(&job);
}

void NormQuantizer::pool(const Room& room, int64_t sample) const {
  const NormShape& s = a_.shape;
  const Extent out = s.out();
  const int64_t row = s.in.columns * s.channels, out_row = out.columns * s.channels;
  uint8_t* winners = a_.winners == nullptr ? room.winners.data() : a_.winners + sample * s.outputs();
  for (int64_t y = 0; y < out.rows; ++y) {
    const float* upper = a_.y + sample * s.inputs() + 2 * y * row;
    const AffinePool job{upper,
                         upper + row,
                         out.columns,
                         s.channels,
                         scale_.data(),
                         shift_.data(),
                         room.largest.data() + y * out_row,
                         winners + y * out_row};
    a_.kernels->pool(&job);
  }
}

void norm_backward(const NormBackwardArgs& args) { Backward(args).run(); }

}  // namespace bitorch
