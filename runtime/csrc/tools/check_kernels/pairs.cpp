// Functions of two tensors, number by number.
#include <cmath>

#include "checks.h"
#include "core/pair_kernels.h"

namespace bitorch {

namespace {

float pair_of(int function, float a, float b, float c) {
  switch (function) {
    case kPairAdd:
      return a + b;
    case kPairSub:
      return a - b;
    case kPairMul:
      return a * b;
    case kPairDiv:
      return a / b;
    case kPairMinimum:
      return a < b || std::isnan(a) ? a : b;
    case kPairMaximum:
      return a > b || std::isnan(a) ? a : b;
    default:
      return c != 0 ? a : b;
  }
}

struct Numbers {
  std::vector<float> memory;
  PairInput input;

  float at(int p, int c) const { return input.data[p * input.pixel_step + c * input.channel_step]; }
};

// Of every kind of repetition; pixels that are not repeated may lie apart.
Numbers any_numbers(Random& random, int pixels, int n) {
  Numbers x;
  x.input.channel_step = random.one_in(3) ? 0 : 1;
  const int least = x.input.channel_step == 0 ? 1 : n;
  x.input.pixel_step = random.one_in(3) ? 0 : least + (random.one_in(2) ? 0 : random.from(1, 9));
  const auto count = static_cast<size_t>((pixels - 1) * x.input.pixel_step + least);
  for (size_t i = 0; i < count; ++i) x.memory.push_back(random.one_in(8) ? 0.0f : any_float(random));
  x.input.data = x.memory.data();
  return x;
}

}  // namespace

// A result may lie where one of the inputs was.
void check_pairs(Random& random, const KernelTable& table) {
  const int function = random.from(0, kPairFunctions - 1), pixels = random.from(1, 9);
  const int n = random.one_in(3) ? random.from(1, 3) : static_cast<int>(any_length(random));
  Numbers x[3] = {any_numbers(random, pixels, n), any_numbers(random, pixels, n), any_numbers(random, pixels, n)};
  const int out_step = n + (random.one_in(2) ? 0 : random.from(1, 9));
  describe("%s pairs[%d]: %d pixels of %d, steps %d %d, %d %d, %d %d", table.name, function, pixels, n,
           static_cast<int>(x[0].input.pixel_step), static_cast<int>(x[0].input.channel_step),
           static_cast<int>(x[1].input.pixel_step), static_cast<int>(x[1].input.channel_step),
           static_cast<int>(x[2].input.pixel_step), static_cast<int>(x[2].input.channel_step));
  const auto count = static_cast<size_t>((pixels - 1) * out_step + n);
  float* out = output_memory().last<float>(count);
  std::vector<float> expected(count, 42.0f);
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < n; ++c) {
      expected[static_cast<size_t>(p * out_step + c)] = pair_of(function, x[0].at(p, c), x[1].at(p, c), x[2].at(p, c));
    }
  }
  for (size_t i = 0; i < count; ++i) out[i] = 42.0f;
  const int over = random.from(0, 2);
  if (x[over].input.channel_step == 1 && x[over].input.pixel_step == out_step) {
    for (int p = 0; p < pixels; ++p) memcpy(out + p * out_step, x[over].input.data + p * out_step, sizeof(float) * n);
    x[over].input.data = out;
  }
  const PairRow row = {out, out_step, x[0].input, x[1].input, x[2].input, pixels, n};
  table.pairs->functions[function](&row);
  for (size_t i = 0; i < count; ++i) {
    if (!same(out[i], expected[i])) fail("float", static_cast<long long>(i), out[i], expected[i]);
  }
}

}  // namespace bitorch
