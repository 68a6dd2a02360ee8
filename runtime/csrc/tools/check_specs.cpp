// Checks that a network can be made of specs alone, without a description: input, convolution, max_pool and output, for
// every kernel table that this CPU can run, against sums that are worked out here.
//
//   check_specs      exits with 1 if a number is wrong, and prints it
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/base/cpu.h"
#include "core/base/packing.h"
#include "core/base/preparation.h"
#include "core/program/memory_plan.h"
#include "operations/convolution.h"
#include "operations/input.h"
#include "operations/max_pool.h"
#include "operations/output.h"
#include "tool.h"

namespace bitorch {
namespace {

constexpr int64_t kHeight = 5, kWidth = 4, kIn = 3, kOut = 37, kWeights = 3 * 3 * kIn;  // kOut: two blocks
constexpr int kWeightBits = 1, kBits = 2;
constexpr int64_t kBatch = 2;

struct Numbers {
  std::vector<uint8_t> codes;    // [kBatch][kHeight][kWidth][kIn]
  std::vector<uint8_t> weights;  // m of [kOut][3][3][kIn]
  std::vector<uint8_t> packed;
};

Numbers random_numbers() {
  Random random(1);
  Numbers numbers;
  for (int64_t i = 0; i < kBatch * kHeight * kWidth * kIn; ++i)
    numbers.codes.push_back(static_cast<uint8_t>(random.below(1 << kBits)));
  for (int64_t i = 0; i < kOut * kWeights; ++i) numbers.weights.push_back(static_cast<uint8_t>(random.below(2)));
  const int64_t row_bytes = packed_row_bytes(kWeights, kWeightBits);
  numbers.packed.resize(static_cast<size_t>(kOut * row_bytes));
  for (int64_t o = 0; o < kOut; ++o) {
    pack_row(&numbers.weights[static_cast<size_t>(o * kWeights)], kWeights, kWeightBits,
             &numbers.packed[static_cast<size_t>(o * row_bytes)]);
  }
  return numbers;
}

// The sum of weight code times code in the window of one output pixel; padding contributes 0.
int32_t expected_sum(const Numbers& numbers, int64_t n, int64_t y, int64_t x, int64_t o) {
  int32_t sum = 0;
  for (int64_t k = 0; k < kWeights; ++k) {
    const int64_t iy = y + k / (3 * kIn) - 1, ix = x + k / kIn % 3 - 1;
    if (iy < 0 || iy >= kHeight || ix < 0 || ix >= kWidth) continue;
    const int code = numbers.codes[static_cast<size_t>(((n * kHeight + iy) * kWidth + ix) * kIn + k % kIn)];
    sum += (2 * numbers.weights[static_cast<size_t>(o * kWeights + k)] - 1) * code;
  }
  return sum;
}

// How many thresholds, 2j + 1, the sum reaches.
int32_t expected_code(const Numbers& numbers, int64_t n, int64_t y, int64_t x, int64_t o) {
  const int32_t sum = expected_sum(numbers, n, y, x, o);
  return (sum >= 1) + (sum >= 3) + (sum >= 5);
}

int32_t expected_maximum(const Numbers& numbers, int64_t n, int64_t y, int64_t x, int64_t o) {
  int32_t most = 0;
  for (int64_t i = 0; i < 4; ++i) most = std::max(most, expected_code(numbers, n, 2 * y + i / 2, 2 * x + i % 2, o));
  return most;
}

const Tensor* add_tensor(Graph* graph, const char* name, int64_t height, int64_t width, int64_t channels) {
  Tensor tensor;
  tensor.name = name;
  tensor.values = Values::kCodes;
  tensor.bits = kBits;
  tensor.axes = {height, width};
  tensor.height = height;
  tensor.width = width;
  tensor.channels = channels;
  graph->tensors.push_back(tensor);
  return &graph->tensors.back();
}

ConvolutionSpec convolution_spec(const Numbers& numbers, const std::vector<int32_t>& thresholds, const Tensor* input,
                                 const Tensor* output) {
  ConvolutionSpec spec;
  ConvGeometry& g = spec.conv.geometry;
  g.height = kHeight;
  g.width = kWidth;
  g.in_channels = kIn;
  g.out_channels = kOut;
  g.kernel_h = g.kernel_w = 3;
  g.pad_top = g.pad_left = g.pad_bottom = g.pad_right = 1;
  spec.conv.weight_bits = kWeightBits;
  spec.conv.activation_bits = kBits;
  spec.conv.packed_weights = numbers.packed.data();
  spec.conv.code.bits = kBits;
  spec.conv.code.int_thresholds = thresholds.data();
  spec.input = input;
  spec.out_codes = output;
  return spec;
}

// The network's results, [kBatch][kHeight / 2][kWidth / 2][kOut].
std::vector<uint8_t> run_network(const Numbers& numbers, const KernelTable& kernels) {
  Graph graph;
  const Tensor* x = add_tensor(&graph, "x", kHeight, kWidth, kIn);
  const Tensor* q = add_tensor(&graph, "q", kHeight, kWidth, kOut);
  const Tensor* p = add_tensor(&graph, "p", kHeight / 2, kWidth / 2, kOut);
  std::vector<int32_t> thresholds;
  for (int64_t o = 0; o < kOut; ++o) thresholds.insert(thresholds.end(), {1, 3, 5});
  MaxPoolSpec pool;
  pool.input = q;
  pool.output = p;
  pool.window.y = {kHeight, 2, 2, 1, 0, 0};
  pool.window.x = {kWidth, 2, 2, 1, 0, 0};
  Preparation preparation(Budget::kNoLimit, 0);
  graph.operations.push_back(make_input({0, x, true}, preparation));
  graph.operations.push_back(make_convolution(convolution_spec(numbers, thresholds, x, q), preparation));
  graph.operations.push_back(make_max_pool(pool, preparation));
  graph.operations.push_back(make_output({p, 0, true}, preparation));
  for (const auto& operation : graph.operations) graph.run_order.push_back(operation.get());
  plan_layouts(graph, kernels);
  int64_t scratch_bytes = 0;
  for (const auto& operation : graph.operations) {
    operation->plan(kernels, preparation);
    scratch_bytes = std::max(scratch_bytes, operation->scratch_bytes(kBatch, 1));
  }
  AlignedArray<uint8_t> arena(preparation.budget(), plan_arena(graph) * kBatch + kSlack, "the arena");
  AlignedArray<uint8_t> scratch(preparation.budget(), scratch_bytes + kSlack, "scratch");
  std::vector<uint8_t> results(static_cast<size_t>(kBatch * p->pixels() * kOut));
  const ArrayView input = {Dtype::kUint8, {kBatch, kHeight, kWidth, kIn}, numbers.codes.data()};
  void* const output = results.data();
  const RunContext context = {&kernels, arena.data(), scratch.data(), 0, kBatch, 1, &input, &output};
  for (const Operation* operation : graph.run_order) operation->run(context);
  return results;
}

int run() {
  const Numbers numbers = random_numbers();
  int failures = 0;
  for (const std::string& name : available_kernels()) {
    const std::vector<uint8_t> results = run_network(numbers, kernels(name));
    for (size_t i = 0; i < results.size(); ++i) {
      const auto at = static_cast<int64_t>(i), pixel = at / kOut, x = pixel % (kWidth / 2), row = pixel / (kWidth / 2);
      const int32_t expected = expected_maximum(numbers, row / (kHeight / 2), row % (kHeight / 2), x, at % kOut);
      if (results[i] == expected) continue;
      std::printf("WRONG %s: result %zu is %d, but must be %d\n", name.c_str(), i, results[i], expected);
      ++failures;
    }
  }
  if (failures == 0) std::printf("specs: a network without a description gives what it must\n");
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bitorch

int main() { return bitorch::run(); }
