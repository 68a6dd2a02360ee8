#include "core/training/few_channels.h"

#include <algorithm>
#include <vector>

#include "core/base/checked.h"
#include "core/base/cpu.h"
#include "core/training/scratch.h"
#include "core/training/workers.h"

namespace bitorch {
namespace {

// A sample with its padding, [rows][columns][channels].
struct Padded {
  explicit Padded(const ConvShape& shape)
      : s(shape),
        rows(s.in.rows + 2 * s.padding.rows),
        row((s.in.columns + 2 * s.padding.columns) * s.in_channels),
        first(s.padding.rows * row + s.padding.columns * s.in_channels) {}

  bool is_x() const { return s.padding.rows == 0 && s.padding.columns == 0; }
  // Zeros, of which put() leaves those of the padding.
  Scratch<float> make_room() const {
    if (is_x()) return {};
    Scratch<float> room(checked_mul(rows, row, "x with its padding"));
    std::fill(room.data(), room.data() + rows * row, 0.0f);
    return room;
  }
  const float* put(const float* x, const Scratch<float>& room) const {
    if (is_x()) return x;
    const int64_t columns = s.in.columns * s.in_channels;
    for (int64_t y = 0; y < s.in.rows; ++y) std::copy_n(x + y * columns, columns, room.data() + first + y * row);
    return room.data();
  }

  const ConvShape& s;
  int64_t rows, row, first;
};

int64_t width_of(int64_t channels) { return ceil_div(channels, kFewLanes) * kFewLanes; }

// Numbers with their channels filled up to the width, or themselves where nothing is to be filled.
class Wide {
 public:
  Wide(const float* numbers, int64_t count, int64_t channels) : from_(numbers) {
    const int64_t width = width_of(channels);
    if (width == channels) return;
    room_ = Scratch<float>(checked_mul(count, width, "a weight"));
    put(numbers, count, channels, room_.data());
    from_ = room_.data();
  }
  const float* data() const { return from_; }

  static void put(const float* numbers, int64_t count, int64_t channels, float* out) {
    const int64_t width = width_of(channels);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(numbers + i * channels, channels, out + i * width);
      std::fill(out + i * width + channels, out + (i + 1) * width, 0.0f);
    }
  }

 private:
  Scratch<float> room_;
  const float* from_;
};

// What forward and backward work with, in parts of one sample.
class Samples {
 protected:
  Samples(const ConvShape& shape, int threads) : s_(shape), padded_(shape), width_(width_of(shape.out_channels)) {
    for (int i = 0; i < threads; ++i) {
      rooms_.push_back({padded_.make_room(), fills() ? Scratch<float>(s_.out().columns * width_) : Scratch<float>()});
    }
  }

  // x with its padding, and a row of y or of its gradient with channels filled up, where they are none of the caller's.
  struct Room {
    Scratch<float> x, row;
  };

  bool fills() const { return width_ != s_.out_channels; }

  const ConvShape& s_;
  const Padded padded_;
  const int64_t width_;
  std::vector<Room> rooms_;
};

class Forward : Samples {
 public:
  explicit Forward(const FewChannelsForward& args)
      : Samples(args.shape, args.threads),
        a_(args),
        weight_(a_.weight, s_.taps() * s_.in_channels, s_.out_channels),
        start_(width_) {
    std::fill(start_.data(), start_.data() + width_, 0.0f);
    if (a_.bias != nullptr) std::copy_n(a_.bias, s_.out_channels, start_.data());
  }

  void run() {
    for_items(s_.batch, a_.threads, [this](int slot, int64_t sample) { run_sample(rooms_[slot], sample); });
  }

 private:
  void run_sample(const Room& room, int64_t sample) const {
    const float* x = padded_.put(a_.x + sample * s_.inputs(), room.x);
    const Extent out = s_.out();
    const int64_t steps = s_.kernel.columns * s_.in_channels, channels = s_.out_channels;
    float* y = a_.y + sample * s_.outputs();
    for (int64_t row = 0; row < out.rows; ++row, y += out.columns * channels) {
      const FewForward job{x + row * s_.stride.rows * padded_.row,
                           padded_.row,
                           s_.stride.columns * s_.in_channels,
                           weight_.data(),
                           start_.data(),
                           static_cast<int32_t>(s_.kernel.rows),
                           static_cast<int32_t>(steps),
                           static_cast<int32_t>(out.columns),
                           static_cast<int32_t>(width_),
                           fills() ? room.row.data() : y,
                           width_};
      a_.kernels->forward(&job);
      if (!fills()) continue;
      for (int64_t p = 0; p < out.columns; ++p) std::copy_n(room.row.data() + p * width_, channels, y + p * channels);
    }
  }

  const FewChannelsForward& a_;
  const Wide weight_;
  Scratch<float> start_;
};

class Backward : Samples {
 public:
  explicit Backward(const FewChannelsBackward& args)
      : Samples(args.shape, args.threads),
        a_(args),
        taps_(s_.taps() * s_.in_channels),
        offset_(taps_),
        sums_of_sample_((taps_ + 1) * width_),
        sums_(checked_mul(s_.batch, sums_of_sample_, "the gradients of samples")) {
    const int64_t steps = s_.kernel.columns * s_.in_channels;
    for (int64_t tap = 0; tap < taps_; ++tap) offset_[tap] = tap / steps * padded_.row + tap % steps;
  }

  void run() {
    for_items(s_.batch, a_.threads, [this](int slot, int64_t sample) { sum_sample(rooms_[slot], sample); });
    for_items(taps_, a_.threads, [this](int, int64_t tap) { add_samples(tap, a_.weight + tap * s_.out_channels); });
    if (a_.bias != nullptr) add_samples(taps_, a_.bias);
  }

 private:
  void sum_sample(const Room& room, int64_t sample) const {
    const float* x = padded_.put(a_.x + sample * s_.inputs(), room.x);
    const Extent out = s_.out();
    const int64_t row = out.columns * s_.out_channels;
    float* sums = sums_.data() + sample * sums_of_sample_;
    std::fill(sums, sums + sums_of_sample_, 0.0f);
    for (int64_t y = 0; y < out.rows; ++y) {
      const float* g = a_.g + sample * s_.outputs() + y * row;
      if (fills()) {
        Wide::put(g, out.columns, s_.out_channels, room.row.data());
        g = room.row.data();
      }
      sum_row(x + y * s_.stride.rows * padded_.row, g, sums);
    }
  }

  // Of one row of y: every tap of the weight, and the bias.
  void sum_row(const float* x, const float* g, float* sums) const {
    FewBackward job{x,
                    s_.stride.columns * s_.in_channels,
                    offset_.data(),
                    g,
                    width_,
                    static_cast<int32_t>(taps_),
                    static_cast<int32_t>(s_.out().columns),
                    static_cast<int32_t>(width_),
                    sums};
    a_.kernels->backward(&job);
    if (a_.bias == nullptr) return;
    const float one = 1;
    const int64_t none = 0;
    job.in = &one;
    job.in_step = 0;
    job.offset = &none;
    job.taps = 1;
    job.sums += taps_ * width_;
    a_.kernels->backward(&job);
  }

  void add_samples(int64_t tap, float* out) const {
    for (int64_t c = 0; c < s_.out_channels; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < s_.batch; ++i) sum += static_cast<double>(sums_[i * sums_of_sample_ + tap * width_ + c]);
      out[c] = static_cast<float>(sum);
    }
  }

  const FewChannelsBackward& a_;
  const int64_t taps_;
  Scratch<int64_t> offset_;  // of each tap from a window's first number
  const int64_t sums_of_sample_;
  Scratch<float> sums_;  // [batch][taps of the weight, and one of the bias][width]
};

}  // namespace

const FewChannelsKernels& few_channels_kernels(const std::string& name) {
  const std::string table = name.empty() ? kernels().name : kernels(name).name;
#if defined(__x86_64__)
  if (table == kAvx2FewChannels.name) return kAvx2FewChannels;
  if (table.rfind(kAvx512FewChannels.name, 0) == 0) return kAvx512FewChannels;
#endif
  return kPortableFewChannels;
}

void few_channels_forward(const FewChannelsForward& args) { Forward(args).run(); }

void few_channels_backward(const FewChannelsBackward& args) { Backward(args).run(); }

}  // namespace bitorch
