// Random layers behind a BatchNorm, in memory of exactly the size that is asked for: on all kernels that this CPU runs
// and on one and three threads, against the portable kernels on one.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "checks.h"
#include "core/training/choice.h"
#include "core/training/forward.h"
#include "core/training/norm.h"

namespace bitorch {
namespace {

struct Case {
  NormShape norm;
  ConvShape shape;
  bool linear, positive;
  int bits;
  std::vector<int8_t> weight;
  std::vector<float> y, dv, gamma;
};

struct Results {
  std::vector<double> mean, variance;
  std::vector<float> y, dy, dgamma, dbeta;
  std::vector<uint8_t> saved, winners;
};

Case random_case(Random& random) {
  const std::vector<int64_t> channels{1, 3, 4, 17, 63, 64, 65, 130};
  Case c;
  c.norm = {random.from(1, 5), {random.from(2, 20), random.from(2, 20)}, random.of(channels), random.one_in(2)};
  const Extent in = c.norm.out();
  c.linear = random.one_in(3);
  c.positive = random.one_in(2);
  c.bits = random.from(1, 8);
  const int64_t kernel = std::min<int64_t>(random.from(1, 3), std::min(in.rows, in.columns));
  c.shape = {c.norm.batch, in, c.norm.channels, random.of(channels), {kernel, kernel}, {1, 1}, {0, 0}};
  if (c.linear) {
    c.shape.in_channels = c.norm.outputs();
    c.shape.in = c.shape.kernel = {1, 1};
  }
  const auto fill = [&](std::vector<float>& numbers, int64_t count) {
    numbers.resize(static_cast<size_t>(count));
    for (float& x : numbers) x = random.real() + 0.25f;
  };
  c.weight.resize(static_cast<size_t>(c.shape.out_channels * c.shape.taps() * c.shape.in_channels));
  for (int8_t& code : c.weight) code = random.one_in(2) ? 1 : -1;
  fill(c.y, c.norm.batch * c.norm.inputs());
  fill(c.dv, c.norm.batch * c.norm.outputs());
  fill(c.gamma, c.norm.channels);
  if (random.one_in(3)) c.y[random.below(c.y.size())] = std::numeric_limits<float>::quiet_NaN();
  return c;
}

Results run(const Case& c, const TrainingKernels& kernels, int threads) {
  const TrainingNormKernels& norm_kernels = training_norm_kernels(kernels);
  const auto channels = static_cast<size_t>(c.norm.channels);
  Results r;
  r.mean.resize(channels);
  r.variance.resize(channels);
  channel_moments(norm_kernels, c.y.data(), static_cast<int64_t>(c.y.size() / channels), c.norm.channels, threads,
                  r.mean.data(), r.variance.data());
  std::vector<float> scale(channels), shift(channels);
  std::vector<double> inverse(channels);
  for (size_t i = 0; i < channels; ++i) {
    inverse[i] = 1 / std::sqrt(r.variance[i] + 1e-5);
    scale[i] = static_cast<float>(inverse[i]) * c.gamma[i];
    shift[i] = 0.5f - static_cast<float>(r.mean[i]) * scale[i];
  }
  ArrayView codes;
  codes.dtype = Dtype::kInt8;
  codes.shape = {static_cast<int64_t>(c.weight.size())};
  codes.data = c.weight.data();
  const WeightCodes weight(codes, c.shape);
  const int64_t bytes =
      c.linear ? LinearSaved(c.shape.batch, c.shape.in_channels, true).bytes : SavedLayout(c.shape, true).bytes;
  r.y.resize(static_cast<size_t>(c.shape.batch * c.shape.outputs()));
  r.saved.resize(static_cast<size_t>(bytes));
  if (c.norm.pools) r.winners.resize(c.dv.size());
  const NormInput input{&norm_kernels,
                        c.norm,
                        c.y.data(),
                        scale.data(),
                        shift.data(),
                        c.positive,
                        c.norm.pools ? r.winners.data() : nullptr};
  const float of_sums = 0.25f;
  const ForwardArgs forward{&kernels, c.shape, &weight, nullptr,    {(1 << c.bits) - 1, false, 0},
                            &of_sums, false,   nullptr, r.y.data(), r.saved.data(),
                            true,     threads, &input};
  c.linear ? linear_forward(forward) : conv_forward(forward);
  r.dy = c.norm.pools ? std::vector<float>(c.y.size()) : c.dv;
  r.dgamma.resize(channels);
  r.dbeta.resize(channels);
  norm_backward({&norm_kernels, c.norm, c.norm.pools ? c.dv.data() : r.dy.data(), c.y.data(), r.winners.data(),
                 r.mean.data(), inverse.data(), c.gamma.data(), r.dy.data(), r.dgamma.data(), r.dbeta.data(), threads});
  return r;
}

// NaN is as good as any other; so is the sign of 0.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && !(a[i] != a[i] && b[i] != b[i])) return false;
  }
  return a.size() == b.size();
}

// Not the bytes that nothing is written to, and that kernels may read: `saved` shows in y.
bool same(const Results& a, const Results& b) {
  return same(a.mean, b.mean) && same(a.variance, b.variance) && same(a.y, b.y) && same(a.winners, b.winners) &&
         same(a.dy, b.dy) && same(a.dgamma, b.dgamma) && same(a.dbeta, b.dbeta);
}

}  // namespace

int64_t check_layers(RandomLayers& layers) {
  return layers.check(
      available_training_kernels(), random_case, [](const Case& c) { return run(c, kPortableTraining, 1); },
      [](const Case& c, const Results& expected, const std::string& name, int threads) {
        return same(run(c, training_kernels(name), threads), expected);
      });
}

}  // namespace bitorch
