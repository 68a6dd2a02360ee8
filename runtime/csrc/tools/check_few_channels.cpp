// Holds convolutions of few channels to the portable kernels on one thread, on all kernels that this CPU runs and on
// one and three threads: random layers, in memory of exactly the size that is asked for. What the portable kernels give
// is held to NumPy by runtime/tests/test_few_channels.py.
//
//   check_few_channels [--cases 200] [--seed 0]      exits with 1 if anything is wrong, and prints it
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/cpu.h"
#include "core/training/few_channels.h"
#include "random_layers.h"

namespace bitorch {
namespace {

struct Case {
  ConvShape shape;
  bool has_bias;
  std::vector<float> x, weight, bias, g;
};

struct Results {
  std::vector<float> y, weight, bias;
};

Case random_case(Random& random) {
  const std::vector<int64_t> outputs{1, 7, 15, 16, 17, 31, 32, 33, 48, 64, 80, 100};
  Case c;
  const Extent kernel{random.from(1, 5), random.from(1, 5)}, padding{random.from(0, 2), random.from(0, 2)};
  c.shape = {random.from(0, 4),
             {kernel.rows + random.from(0, 16), kernel.columns + random.from(0, 16)},
             random.from(1, 5),
             random.of(outputs),
             kernel,
             {random.from(1, 3), random.from(1, 3)},
             padding};
  c.has_bias = random.one_in(2);
  const auto fill = [&](std::vector<float>& numbers, int64_t count) {
    numbers.resize(static_cast<size_t>(count));
    for (float& x : numbers) x = random.real();
  };
  fill(c.x, c.shape.batch * c.shape.inputs());
  fill(c.weight, c.shape.taps() * c.shape.in_channels * c.shape.out_channels);
  fill(c.bias, c.shape.out_channels);
  fill(c.g, c.shape.batch * c.shape.outputs());
  return c;
}

Results run(const Case& c, const std::string& kernel, int threads) {
  const FewChannelsKernels& table = few_channels_kernels(kernel);
  Results r{std::vector<float>(c.g.size()), std::vector<float>(c.weight.size()), std::vector<float>(c.bias.size())};
  few_channels_forward(
      {&table, c.shape, c.x.data(), c.weight.data(), c.has_bias ? c.bias.data() : nullptr, r.y.data(), threads});
  few_channels_backward(
      {&table, c.shape, c.x.data(), c.g.data(), r.weight.data(), c.has_bias ? r.bias.data() : nullptr, threads});
  return r;
}

int check(int argc, char** argv) {
  RandomLayers layers(argc, argv, "check_few_channels");
  const int64_t wrong = layers.check(
      available_kernels(), random_case, [](const Case& c) { return run(c, "portable", 1); },
      [](const Case& c, const Results& expected, const std::string& name, int threads) {
        const Results found = run(c, name, threads);
        return found.y == expected.y && found.weight == expected.weight && found.bias == expected.bias;
      });
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) { return bitorch::run_tool("check_few_channels", bitorch::check, argc, argv); }
