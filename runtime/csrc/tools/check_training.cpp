// Holds steps of training to plain loops over codes, on all kernels that this CPU runs and on one and three threads:
// random layers, in memory of exactly the size that is asked for.
//
//   check_training [--cases 200] [--seed 0]      exits with 1 if anything is wrong, and prints it
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/training/backward.h"
#include "core/training/choice.h"
#include "core/training/forward.h"
#include "random_layers.h"

namespace bitorch {
namespace {

struct Case {
  ConvShape shape;
  bool linear;
  InputCodes input;
  GradientSpec gradient;
  std::vector<int16_t> weight;  // [out_channels][kernel.rows][kernel.columns][in_channels / groups]
  std::vector<float> x, g;
  float input_scale, weight_scale;

  bool masked() const { return !input.given; }
  int64_t pixels() const { return shape.out().rows * shape.out().columns; }
  // Of the weight's code of channel c within its group.
  size_t at(int64_t o, int64_t tap, int64_t c) const {
    return static_cast<size_t>((o * shape.taps() + tap) * shape.of_group().in_channels + c);
  }
};

struct Results {
  std::vector<float> y, dx, dw, dbias;
  bool holds_nan;
};

ConvShape random_shape(Random& random, bool linear) {
  const std::vector<int64_t> channels{1, 3, 4, 8, 9, 15, 16, 17, 63, 64, 65, 130};
  ConvShape s{random.from(1, 5), {1, 1}, random.of(channels), random.of(channels), {1, 1}, {1, 1}, {0, 0}};
  if (linear) return s;
  if (random.one_in(3)) s.groups = random.from(2, 4);
  s.in_channels *= s.groups;
  s.out_channels *= s.groups;
  const std::vector<int64_t> kernels{1, 2, 3, 5, 7};
  s.kernel = {random.of(kernels), random.of(kernels)};
  s.stride = {random.from(1, 3), random.from(1, 3)};
  s.padding = {random.from(0, 2), random.from(0, 2)};
  s.in = {std::max<int64_t>(1, s.kernel.rows - 2 * s.padding.rows) + random.from(0, 9),
          std::max<int64_t>(1, s.kernel.columns - 2 * s.padding.columns) + random.from(0, 15)};
  return s;
}

InputCodes random_input(Random& random, int most_bits) {
  const int levels = (1 << random.from(1, most_bits)) - 1;
  if (!random.one_in(2)) return {levels, false, 0};
  return {levels, true, static_cast<int>(random.one_in(4) ? random.from(-255, 0) : -(levels + 1) / 2)};
}

// Around the range of the quantizer, or a code; some are out of range.
float random_number(Random& random, const InputCodes& input) {
  if (!input.given) return random.real() + 0.5f;
  if (random.one_in(50)) return random.real() * 1e30f;
  return static_cast<float>(input.low + random.from(0, input.levels));
}

// All codes as large as they get, so that sums are, too: in the first sample of gradients, and in the others of the
// other sign.
void go_to_extremes(Random& random, int n, Case& c) {
  const int sign = random.one_in(2) ? 1 : -1;
  for (int16_t& code : c.weight) code = static_cast<int16_t>(sign * n);
  for (float& x : c.x) x = c.input.given ? static_cast<float>(c.input.low + c.input.levels) : 1;
  const size_t outputs = static_cast<size_t>(c.shape.outputs());
  for (size_t i = 0; i < c.g.size(); ++i) c.g[i] = i < outputs ? 1e-3f : -1e-3f;
}

Case random_case(Random& random) {
  Case c;
  c.linear = random.one_in(4);
  c.shape = random_shape(random, c.linear);
  const bool few = random.one_in(2);  // so that forwards run on bit planes
  c.input = random_input(random, few ? 2 : 8);
  const bool has_zero = random.one_in(2);
  c.gradient = {static_cast<int>(random.from(has_zero ? 2 : 1, 8)),
                has_zero,
                !random.one_in(4),
                {static_cast<uint32_t>(random.word()), 5}};
  const int n = (1 << random.from(1, few ? 2 : 8)) - 1;
  c.weight.resize(static_cast<size_t>(c.shape.out_channels * c.shape.taps() * c.shape.of_group().in_channels));
  for (int16_t& code : c.weight) code = static_cast<int16_t>(2 * random.from(0, n) - n);
  c.x.resize(static_cast<size_t>(c.shape.batch * c.shape.inputs()));
  for (float& x : c.x) x = random_number(random, c.input);
  c.g.resize(static_cast<size_t>(c.shape.batch * c.shape.outputs()));
  for (float& g : c.g) g = random.real() * 1e-3f;
  if (random.one_in(4)) go_to_extremes(random, n, c);
  if (random.one_in(4)) c.x[random.below(c.x.size())] = std::numeric_limits<float>::quiet_NaN();
  if (random.one_in(3)) c.g[random.below(c.g.size())] = std::numeric_limits<float>::infinity();
  c.input_scale = 1 / static_cast<float>(c.input.levels);
  c.weight_scale = 0.037f;
  return c;
}

// visit(sample, pixel, tap, input) for all taps that meet a pixel of x; pixel and input count rows x columns.
template <class F>
void for_meetings(const ConvShape& s, const F& visit) {
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t pixel = 0; pixel < s.out().rows * s.out().columns; ++pixel) {
      for (int64_t tap = 0; tap < s.taps(); ++tap) {
        const int64_t row = pixel / s.out().columns * s.stride.rows + tap / s.kernel.columns - s.padding.rows;
        const int64_t column = pixel % s.out().columns * s.stride.columns + tap % s.kernel.columns - s.padding.columns;
        if (row < 0 || row >= s.in.rows || column < 0 || column >= s.in.columns) continue;
        visit(n, pixel, tap, row * s.in.columns + column);
      }
    }
  }
}

// The plain loops.
class Reference {
 public:
  explicit Reference(const Case& c) : c_(c), s_(c.shape) {
    for (float x : c.x) q_.push_back(code_of(x));
    codes_.resize(c.g.size());
    scale_.resize(static_cast<size_t>(s_.batch));
    gradient_codes(kPortableTraining, c.gradient, c.g.data(), s_.batch, s_.outputs(), 1, codes_.data(), scale_.data());
  }

  Results results() const {
    Results r;
    r.holds_nan = std::any_of(c_.x.begin(), c_.x.end(), [](float x) { return std::isnan(x); });
    std::vector<int64_t> y(c_.g.size()), dx(c_.x.size()), dw(static_cast<size_t>(s_.batch) * c_.weight.size());
    const ConvShape group = s_.of_group();
    const int64_t channels = group.in_channels, outputs = s_.out_channels;
    for_meetings(s_, [&](int64_t n, int64_t pixel, int64_t tap, int64_t input) {
      for (int64_t o = 0; o < outputs; ++o) {
        const int64_t at = n * s_.outputs() + pixel * outputs + o, code = c_.gradient.code(codes_[at]);
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t first = o / group.out_channels * channels,
                        in = n * s_.inputs() + input * s_.in_channels + first + c;
          const size_t weight = c_.at(o, tap, c);
          y[at] += int64_t{q_[in]} * c_.weight[weight];
          dx[in] += code * c_.weight[weight];
          dw[static_cast<size_t>(n) * c_.weight.size() + weight] += code * q_[in];
        }
      }
    });
    for (int64_t d : y) r.y.push_back(static_cast<float>(d) * (c_.input_scale * c_.weight_scale));
    for (size_t i = 0; i < dx.size(); ++i) {
      const float scale = scale_[i / static_cast<size_t>(s_.inputs())] * c_.weight_scale;
      r.dx.push_back(!c_.masked() || (c_.x[i] >= 0 && c_.x[i] <= 1) ? static_cast<float>(dx[i]) * scale : 0);
    }
    add_samples(dw, r);
    return r;
  }

 private:
  int code_of(float x) const {
    if (std::isnan(x)) return 0;
    const auto levels = static_cast<float>(c_.input.levels), low = static_cast<float>(c_.input.low);
    if (c_.input.given) return static_cast<int>(std::min(std::max(x, low), low + levels));
    return static_cast<int>(std::nearbyint(std::min(std::max(x, 0.0f), 1.0f) * levels));
  }

  // One sample after the other.
  void add_samples(const std::vector<int64_t>& dw, Results& r) const {
    const size_t weights = c_.weight.size(), outputs = static_cast<size_t>(s_.out_channels);
    r.dw.assign(weights, 0);
    r.dbias.assign(outputs, 0);
    for (size_t n = 0; n < static_cast<size_t>(s_.batch); ++n) {
      for (size_t i = 0; i < weights; ++i) {
        const size_t o = i / (weights / outputs), c = i % static_cast<size_t>(s_.in_channels);
        const float code = static_cast<float>(c_.gradient.code(codes_[n * outputs + (c_.linear ? o : 0)]));
        const float q = static_cast<float>(q_[n * static_cast<size_t>(s_.inputs()) + c]);
        r.dw[i] = c_.linear ? std::fma(q, code * scale_[n], r.dw[i])
                            : std::fma(static_cast<float>(dw[n * weights + i]), scale_[n], r.dw[i]);
      }
      for (size_t o = 0; o < outputs; ++o) {
        int64_t sum = 0;
        for (size_t p = 0; p < static_cast<size_t>(c_.pixels()); ++p) {
          sum += c_.gradient.code(codes_[(n * static_cast<size_t>(c_.pixels()) + p) * outputs + o]);
        }
        r.dbias[o] = std::fma(static_cast<float>(sum), scale_[n], r.dbias[o]);
      }
    }
    for (float& w : r.dw) w *= c_.input_scale;
  }

  const Case& c_;
  const ConvShape& s_;
  std::vector<int> q_;
  std::vector<int8_t> codes_;
  std::vector<float> scale_;
};

Results run(const Case& c, const TrainingKernels& kernels, int threads) {
  const ConvShape& s = c.shape;
  ArrayView codes;
  codes.dtype = Dtype::kInt16;
  codes.shape = {static_cast<int64_t>(c.weight.size())};
  codes.data = c.weight.data();
  const WeightCodes weight(codes, s);
  const int64_t bytes =
      c.linear ? LinearSaved(s.batch, s.in_channels, c.masked()).bytes : SavedLayout(s, c.masked()).bytes;
  std::vector<uint8_t> saved(static_cast<size_t>(bytes));
  Results r{std::vector<float>(c.g.size()), std::vector<float>(c.x.size()), std::vector<float>(c.weight.size()),
            std::vector<float>(static_cast<size_t>(s.out_channels)), false};
  const float scale = c.input_scale * c.weight_scale;
  const ForwardArgs forward{&kernels, s,       &weight,    c.x.data(),   c.input,    &scale,
                            false,    nullptr, r.y.data(), saved.data(), c.masked(), threads};
  r.holds_nan = c.linear ? linear_forward(forward) : conv_forward(forward);
  const BackwardArgs backward{&kernels,       s,          c.gradient, c.g.data(),    &weight,     c.weight_scale,
                              saved.data(),   c.masked(), c.input,    c.input_scale, r.dx.data(), r.dw.data(),
                              r.dbias.data(), threads};
  c.linear ? linear_backward(backward) : conv_backward(backward);
  return r;
}

// NaN is as good as any other; so is the sign of 0.
bool same(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  }
  return a.size() == b.size();
}

bool same(const Results& a, const Results& b) {
  return same(a.y, b.y) && same(a.dx, b.dx) && same(a.dw, b.dw) && same(a.dbias, b.dbias) && a.holds_nan == b.holds_nan;
}

int check(int argc, char** argv) {
  RandomLayers layers(argc, argv, "check_training");
  const int64_t wrong = layers.check(
      available_training_kernels(), random_case, [](const Case& c) { return Reference(c).results(); },
      [](const Case& c, const Results& expected, const std::string& name, int threads) {
        return same(run(c, training_kernels(name), threads), expected);
      });
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) { return bitorch::run_tool("check_training", bitorch::check, argc, argv); }
