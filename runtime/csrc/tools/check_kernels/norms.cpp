// Checks of a table's normalisations and reductions, against plain loops in the order that core/norm_kernels.h gives.
#include <algorithm>
#include <cmath>
#include <limits>

#include "checks.h"
#include "core/norm_kernels.h"

namespace bitorch {
namespace {

// Of lanes l, l + 16, .. as the header has it; `combined` of two numbers.
template <typename Number, typename Combined>
Number of_lanes(std::vector<Number> lane, const Combined& combined) {
  for (size_t half = kSumLanes / 2; half > 0; half /= 2) {
    for (size_t l = 0; l < half; ++l) lane[l] = combined(lane[l], lane[l + half]);
  }
  return lane[0];
}

double add(double a, double b) { return a + b; }

template <typename Term>
double sum_in_lanes(size_t n, const Term& term) {
  std::vector<double> lane(kSumLanes);
  for (size_t i = 0; i < n; ++i) lane[i % kSumLanes] += term(i);
  return of_lanes(lane, add);
}

bool same_double(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

float further(float a, float b, bool smallest) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<float>::quiet_NaN();
  return (smallest ? b < a : b > a) ? b : a;
}

// Numbers of a net, now and then with one that is none.
float* any_numbers(Random& random, size_t n) {
  float* in = input_memory().last<float>(n);
  const float middle = random.one_in(3) ? random.real() * 1000.0f : 0.0f;
  for (size_t i = 0; i < n; ++i) in[i] = middle + random.real();
  if (random.one_in(4)) in[static_cast<size_t>(random.from(0, static_cast<int>(n) - 1))] = any_float(random);
  return in;
}

std::vector<float> some_numbers(Random& random, size_t n) {
  std::vector<float> numbers(n);
  for (float& number : numbers) number = random.real() * 2.0f;
  return numbers;
}

// What a list is normalised with, by the header's rule for pixels.
struct Standard {
  float middle, factor;
};

Standard standard_of(const KernelTable& table, const float* in, size_t n, int by, float eps) {
  const double count = static_cast<double>(n);
  const double mean =
      by == kDeviation ? sum_in_lanes(n, [&](size_t i) { return static_cast<double>(in[i]); }) / count : 0.0;
  const float middle = static_cast<float>(mean);
  std::vector<double> lane(kSumLanes);
  for (size_t first = 0; first < n; first += 512) {
    std::vector<float> part(kSumLanes);
    for (size_t i = first; i < std::min(n, first + 512); ++i) {
      volatile float difference = in[i] - middle;
      volatile float square = difference * difference;
      part[i % kSumLanes] += square;
    }
    for (size_t l = 0; l < kSumLanes; ++l) lane[l] += static_cast<double>(part[l]);
  }
  const double rounded = mean - static_cast<double>(middle);
  const double squares = of_lanes(lane, add) - count * (rounded * rounded);
  return {middle, table.norms->factor_of(by, squares < 0.0 ? 0.0 : squares, count, eps)};
}

float standardized(float x, const Standard& by, const float* weight, const float* bias, size_t c) {
  volatile float y = x - by.middle;
  y = y * by.factor;
  if (weight != nullptr) y = y * weight[c];
  if (bias != nullptr) y = y + bias[c];
  return y;
}

void check_factor(Random& random, const KernelTable& table) {
  const double squares = std::fabs(static_cast<double>(any_float(random))), count = random.from(1, 5000);
  const float eps = random.one_in(3) ? 0.0f : 1e-5f;
  describe("%s norms.factor_of: squares %g, count %g, eps %g", table.name, squares, count, static_cast<double>(eps));
  const double mean = static_cast<double>(static_cast<float>(squares / count));
  const float norm = static_cast<float>(std::sqrt(static_cast<double>(static_cast<float>(squares))));
  const float expected[] = {static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps))),
                            static_cast<float>(1.0 / static_cast<double>(norm < eps ? eps : norm))};
  for (int by : {kDeviation, kRootMeanSquare, kNorm}) {
    const float got = table.norms->factor_of(by, squares, count, eps);
    if (!same(got, expected[by == kNorm])) fail("factor", by, got, expected[by == kNorm]);
  }
}

}  // namespace

void check_sums(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  describe_row(table, "norms.sum", n, 0);
  const float* in = any_numbers(random, n);
  const auto length = static_cast<int64_t>(n);
  const double mean = static_cast<double>(random.real());
  const double sum = sum_in_lanes(n, [&](size_t i) { return static_cast<double>(in[i]); });
  const double squares = sum_in_lanes(n, [&](size_t i) {
    volatile double difference = static_cast<double>(in[i]) - mean;
    volatile double square = difference * difference;
    return square;
  });
  if (!same_double(table.norms->sum(in, length), sum)) fail("sum", 0, table.norms->sum(in, length), sum);
  const double got = table.norms->squares(in, mean, length);
  if (!same_double(got, squares)) fail("sum of squares", 0, got, squares);
  for (bool smallest : {false, true}) {
    std::vector<float> lane(kSumLanes, smallest ? INFINITY : -INFINITY);
    for (size_t i = 0; i < n; ++i) lane[i % kSumLanes] = further(lane[i % kSumLanes], in[i], smallest);
    const float most = of_lanes(lane, [&](float a, float b) { return further(a, b, smallest); });
    if (!same(table.norms->extreme(in, length, smallest), most)) {
      fail("extreme", smallest, table.norms->extreme(in, length, smallest), most);
    }
  }
  check_factor(random, table);
}

void check_columns(Random& random, const KernelTable& table) {
  const size_t n = any_length(random), pixels = static_cast<size_t>(random.from(0, 5));
  const size_t step = n + static_cast<size_t>(random.from(0, 9));
  describe_row(table, "norms.add_columns", n, static_cast<int>(pixels));
  const float* in = any_numbers(random, std::max<size_t>(1, pixels == 0 ? 0 : (pixels - 1) * step + n));
  std::vector<double> sums(n, 1.5), squares(n, 0.25), means(n);
  for (double& mean : means) mean = static_cast<double>(random.real());
  std::vector<double> expected = sums, expected_squares = squares;
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < n; ++c) {
      const double x = static_cast<double>(in[p * step + c]);
      volatile double square = (x - means[c]) * (x - means[c]);
      expected[c] += x;
      expected_squares[c] += square;
    }
  }
  const auto length = static_cast<int64_t>(n), apart = static_cast<int64_t>(step), count = static_cast<int64_t>(pixels);
  table.norms->add_columns(sums.data(), in, apart, count, length);
  table.norms->add_squares(squares.data(), means.data(), in, apart, count, length);
  for (size_t c = 0; c < n; ++c) {
    const auto at = static_cast<long long>(c);
    if (!same_double(sums[c], expected[c])) fail("sum", at, sums[c], expected[c]);
    if (!same_double(squares[c], expected_squares[c])) fail("square", at, squares[c], expected_squares[c]);
  }
}

void check_extremes(Random& random, const KernelTable& table) {
  const size_t n = any_length(random);
  const bool smallest = random.one_in(2);
  describe_row(table, "norms.extreme_columns", n, smallest);
  const float* in = any_numbers(random, n);
  std::vector<float> out = some_numbers(random, n);
  if (random.one_in(3)) out[0] = any_float(random);
  if (random.one_in(3)) out[n - 1] = in[n - 1];
  std::vector<float> with_places = out;
  std::vector<int32_t> places(n, 3);
  const std::vector<float> before = out;
  table.norms->extreme_columns(out.data(), in, static_cast<int64_t>(n), smallest);
  table.norms->extreme_places(with_places.data(), places.data(), in, 7, static_cast<int64_t>(n), smallest);
  for (size_t i = 0; i < n; ++i) {
    const auto at = static_cast<long long>(i);
    const float expected = further(before[i], in[i], smallest);
    const bool wins =
        !std::isnan(before[i]) && (std::isnan(in[i]) || (smallest ? in[i] < before[i] : in[i] > before[i]));
    if (!same(out[i], expected)) fail("float", at, out[i], expected);
    if (!same(with_places[i], expected)) fail("float beside its place", at, with_places[i], expected);
    if (places[i] != (wins ? 7 : 3)) fail("place", at, places[i], wins ? 7 : 3);
  }
}

void check_normalize(Random& random, const KernelTable& table) {
  NormalizePixels t = {};
  t.groups = random.one_in(3) ? random.from(1, 4) : 1;
  t.channels = static_cast<int64_t>(any_length(random)) * t.groups;
  t.pixels = random.from(0, 11);
  t.by = random.from(0, 2);
  t.eps = random.one_in(3) ? 0.0f : 1e-5f;
  describe("%s norms.normalize: channels %lld, groups %lld, pixels %lld, by %d", table.name,
           static_cast<long long>(t.channels), static_cast<long long>(t.groups), static_cast<long long>(t.pixels),
           t.by);
  const auto channels = static_cast<size_t>(t.channels), values = static_cast<size_t>(t.pixels) * channels;
  const float* in = any_numbers(random, std::max<size_t>(1, values));
  const std::vector<float> weight = some_numbers(random, channels), bias = some_numbers(random, channels);
  t.in = in;
  t.weight = random.one_in(2) ? weight.data() : nullptr;
  t.bias = random.one_in(2) ? bias.data() : nullptr;
  Guarded out(output_memory(), values * sizeof(float));
  t.out = reinterpret_cast<float*>(out.data());
  const size_t list = channels / static_cast<size_t>(t.groups);
  table.norms->normalize(&t);
  for (size_t first = 0; first < values; first += list) {
    const Standard by = standard_of(table, in + first, list, t.by, t.eps);
    for (size_t i = 0; i < list; ++i) {
      const float expected = standardized(in[first + i], by, t.weight, t.bias, first % channels + i);
      if (!same(t.out[first + i], expected))
        fail("float", static_cast<long long>(first + i), t.out[first + i], expected);
    }
  }
}

void check_standardize(Random& random, const KernelTable& table) {
  StandardizePixels t = {};
  t.channels = static_cast<int64_t>(any_length(random));
  t.pixels = random.from(0, 5);
  t.weight_step = random.one_in(2) ? t.channels : 0;
  t.bias_step = random.one_in(2) ? t.channels : 0;
  describe_row(table, "norms.standardize", static_cast<size_t>(t.channels), static_cast<int>(t.pixels));
  const auto channels = static_cast<size_t>(t.channels), values = static_cast<size_t>(t.pixels) * channels;
  const float* in = any_numbers(random, std::max<size_t>(1, values));
  const std::vector<float> mean = some_numbers(random, channels), factor = some_numbers(random, channels);
  const std::vector<float> weight = some_numbers(random, values + channels),
                           bias = some_numbers(random, values + channels);
  t.in = in;
  t.mean = mean.data();
  t.factor = factor.data();
  t.weight = random.one_in(2) ? weight.data() : nullptr;
  t.bias = random.one_in(2) ? bias.data() : nullptr;
  t.out = output_memory().last<float>(values);
  table.norms->standardize(&t);
  for (size_t i = 0; i < values; ++i) {
    const size_t p = i / channels, c = i % channels;
    const float* weights = t.weight == nullptr ? nullptr : t.weight + p * static_cast<size_t>(t.weight_step);
    const float* biases = t.bias == nullptr ? nullptr : t.bias + p * static_cast<size_t>(t.bias_step);
    const float expected = standardized(in[i], {mean[c], factor[c]}, weights, biases, c);
    if (!same(t.out[i], expected)) fail("float", static_cast<long long>(i), t.out[i], expected);
  }
}

}  // namespace bitorch
