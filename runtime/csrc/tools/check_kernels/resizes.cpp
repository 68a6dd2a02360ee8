// Interpolation: a few pixels with weights, summed from the first to the last.
#include "checks.h"
#include "core/resize_kernels.h"

namespace bitorch {

namespace {

// Most cases are of weights that add up to 1; the others are of any numbers.
std::vector<float> any_weights(Random& random, int sums, int count) {
  std::vector<float> weights;
  for (int i = 0; i < sums * count; ++i) {
    weights.push_back(random.one_in(4) ? any_float(random) : static_cast<float>(random.from(-64, 192)) / 256);
  }
  return weights;
}

// In the order of the comment, each product and each sum rounded by itself.
float blended(const std::vector<float>& numbers, const float* weights) {
  volatile float sum = numbers[0] * weights[0];
  for (size_t k = 1; k < numbers.size(); ++k) {
    const volatile float product = numbers[k] * weights[k];
    sum = sum + product;
  }
  return sum;
}

void fill_floats(Random& random, float* numbers, size_t count) {
  for (size_t i = 0; i < count; ++i) numbers[i] = any_float(random);
}

}  // namespace

void check_resize_columns(Random& random, const KernelTable& table) {
  const int count = random.one_in(2) ? 2 : 4, width = random.from(1, 40), pixels = random.from(1, 40);
  const int channels = random.one_in(2) ? random.from(1, 5) : any_channels(random);
  describe("%s resizes.columns: %d of %d pixels, %d each, of %d channels", table.name, width, pixels, count, channels);
  const auto numbers = static_cast<size_t>(pixels * channels);
  float* const in = input_memory().last<float>(numbers);
  fill_floats(random, in, numbers);
  std::vector<int32_t> places;
  for (int i = 0; i < width * count; ++i) places.push_back(random.from(0, pixels - 1));
  const std::vector<float> weights = any_weights(random, width, count);
  float* const out = output_memory().last<float>(static_cast<size_t>(width * channels));
  std::vector<float> expected;
  for (int x = 0; x < width; ++x) {
    for (int c = 0; c < channels; ++c) {
      std::vector<float> window;
      for (int k = 0; k < count; ++k) window.push_back(in[places[x * count + k] * channels + c]);
      expected.push_back(blended(window, &weights[x * count]));
    }
  }
  const ResizeColumns columns = {in, out, places.data(), weights.data(), width, channels, count};
  table.resizes->columns(&columns);
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
  }
}

void check_resize_rows(Random& random, const KernelTable& table) {
  const int count = random.one_in(2) ? 2 : 4;
  const size_t n = any_length(random);
  describe("%s resizes.rows: %zu numbers of %d rows", table.name, n, count);
  float* const in = input_memory().last<float>(n * 4);
  fill_floats(random, in, n * 4);
  const float* rows[4];
  for (int k = 0; k < count; ++k) rows[k] = in + random.from(0, 3) * n;  // at a border one row stands for two
  const std::vector<float> weights = any_weights(random, 1, count);
  float* const out = output_memory().last<float>(n);
  table.resizes->rows(out, rows, weights.data(), count, static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    std::vector<float> window;
    for (int k = 0; k < count; ++k) window.push_back(rows[k][i]);
    const float expected = blended(window, weights.data());
    if (!same(out[i], expected)) fail("float", static_cast<long long>(i), out[i], expected);
  }
}

}  // namespace bitorch
