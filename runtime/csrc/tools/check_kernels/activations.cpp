// Checks of a table's functions of floats: against libm in double, and against the portable table, which every other
// one must equal to the last bit. check_functions goes through all floats.
#include <cmath>

#include "checks.h"
#include "core/function_kernels.h"
#include "tools/true_functions.h"

namespace bitorch {
namespace {

// Any bit pattern, or a number of the size that networks have.
float any_activation(Random& random) {
  if (random.one_in(3)) return any_float(random);
  if (random.one_in(2)) return random.real() * 20.0f;
  const uint32_t word = static_cast<uint32_t>(random.word());
  float value;
  memcpy(&value, &word, 4);
  return value;
}

// Less than 3 units in the last place of the true value, which for small numbers is the smallest float.
bool is_near(float got, double expected) {
  const float rounded = static_cast<float>(expected);
  if (same(got, rounded)) return true;
  if (!std::isfinite(got) || !std::isfinite(rounded)) return false;
  const float above = std::nextafterf(std::fabs(rounded), INFINITY);
  return std::fabs(static_cast<double>(got) - expected) <
         3.0 * (static_cast<double>(above) - std::fabs(static_cast<double>(rounded)));
}

float clamp_to_six(float y) { return y < 0.0f ? 0.0f : y > 6.0f ? 6.0f : y; }

// Rounded after each step, as they are defined.
double hardswish(double x, double) {
  const auto number = static_cast<float>(x);
  return static_cast<double>(number * clamp_to_six(number + 3.0f) / 6.0f);
}

double hardsigmoid(double x, double) { return static_cast<double>(clamp_to_six(static_cast<float>(x) + 3.0f) / 6.0f); }

// Of x and of its first parameter, or of its own one.
struct Known {
  const char* name;
  FunctionOfFloats function;
  double (*expected)(double x, double parameter);
};

const Known kKnown[] = {
    {"leaky_relu", kLeakyRelu, [](double x, double slope) { return x > 0.0 ? x : x * slope; }},
    {"elu", kElu, [](double x, double slope) { return x > 0.0 ? x : slope * std::expm1(x); }},
    {"selu", kSelu, [](double x, double) { return true_selu(x); }},
    {"celu", kCelu, [](double x, double alpha) { return x > 0.0 ? x : alpha * std::expm1(x / alpha); }},
    {"hardswish", kHardswish, hardswish},
    {"hardsigmoid", kHardsigmoid, hardsigmoid},
    {"sigmoid", kSigmoid, [](double x, double) { return 1.0 / (1.0 + std::exp(-x)); }},
    {"logsigmoid", kLogSigmoid, [](double x, double) { return -true_softplus(-x); }},
    {"tanh", kTanh, [](double x, double) { return std::tanh(x); }},
    {"silu", kSilu, [](double x, double) { return x / (1.0 + std::exp(-x)); }},
    {"mish", kMish, [](double x, double) { return true_mish(x); }},
    {"gelu", kGelu, [](double x, double) { return true_gelu(x); }},
    {"gelu_tanh", kGeluTanh, [](double x, double) { return true_gelu_tanh(x); }},
    {"softplus", kSoftplus, [](double x, double beta) { return true_softplus(x * beta) / beta; }},
    {"softsign", kSoftsign, [](double x, double) { return x / (1.0 + std::fabs(x)); }},
    {"erf", kErf, [](double x, double) { return std::erf(x); }},
    {"exp", kExp, [](double x, double) { return std::exp(x); }},
    {"log", kLog, [](double x, double) { return std::log(x); }},
    {"sqrt", kSqrt, [](double x, double) { return std::sqrt(x); }},
    {"rsqrt", kRsqrt, [](double x, double) { return 1.0 / std::sqrt(x); }},
    {"reciprocal", kReciprocal, [](double x, double) { return 1.0 / x; }},
    {"abs", kAbs, [](double x, double) { return std::fabs(x); }},
    {"sign", kSign, [](double x, double) { return x > 0.0   ? 1.0
                                                  : x < 0.0 ? -1.0
                                                            : 0.0; }},
    {"threshold", kThreshold, [](double x, double threshold) { return x <= threshold ? 0.5 : x; }},
    {"hardshrink", kHardshrink, [](double x, double lambda) { return x >= -lambda && x <= lambda ? 0.0 : x; }},
    {"softshrink", kSoftshrink,
     [](double x, double lambda) { return x > lambda    ? x - lambda
                                          : x < -lambda ? x + lambda
                                                        : x * 0.0; }},
};

bool has_one_for_each(FunctionOfFloats function) { return function == kLeakyRelu || function == kElu; }

// Of those with few parameters, so that nothing but the function itself is rounded.
std::vector<float> parameters_of(Random& random, FunctionOfFloats function, size_t n) {
  if (function == kCelu) return {2.0f, 0.5f};
  if (function == kSoftplus) return {0.5f, 20.0f};
  if (function == kThreshold) return {0.25f, 0.5f};
  if (!has_one_for_each(function)) return {0.5f};
  std::vector<float> slopes(n);
  for (float& value : slopes) value = any_activation(random);
  return slopes;
}

void check_function(Random& random, const KernelTable& table, const Known& known, const float* in, size_t n) {
  describe("%s functions.%s: n %zu", table.name, known.name, n);
  const std::vector<float> parameters = parameters_of(random, known.function, n);
  std::vector<float> portable(n);
  const auto count = static_cast<int64_t>(n);
  float* out = output_memory().last<float>(n);
  table.functions->of[known.function](out, in, parameters.data(), count);
  kPortableKernels.functions->of[known.function](portable.data(), in, parameters.data(), count);
  for (size_t i = 0; i < n; ++i) {
    const auto at = static_cast<long long>(i);
    if (!same(out[i], portable[i])) fail("float, portable", at, out[i], portable[i]);
    const double parameter = parameters[has_one_for_each(known.function) ? i : 0];
    const double expected = known.expected(static_cast<double>(in[i]), parameter);
    if (static_cast<double>(out[i]) == expected || is_near(out[i], expected)) continue;
    fail("float", at, out[i], expected);
  }
  std::vector<float> in_place(in, in + n);
  table.functions->of[known.function](in_place.data(), in_place.data(), parameters.data(), count);
  for (size_t i = 0; i < n; ++i) {
    if (!same(in_place[i], out[i])) fail("float, in place", static_cast<long long>(i), in_place[i], out[i]);
  }
}

}  // namespace

void check_activations(Random& random, const KernelTable& table) {
  const size_t n = static_cast<size_t>(random.from(1, 90));
  float* in = input_memory().last<float>(n);
  for (size_t i = 0; i < n; ++i) in[i] = any_activation(random);
  for (const Known& known : kKnown) check_function(random, table, known, in, n);
}

void check_softmax(Random& random, const KernelTable& table) {
  const int channels = random.one_in(8) ? random.from(1, 1200) : random.from(1, 40);
  const auto n = static_cast<size_t>(channels);
  float* in = input_memory().last<float>(n);
  for (size_t i = 0; i < n; ++i) in[i] = random.one_in(8) ? any_activation(random) : random.real() * 30.0f;
  double most = -INFINITY, others = 0;  // others: the sum but for the first of the largest, whose term is 1
  for (size_t i = 0; i < n; ++i) most = static_cast<double>(in[i]) > most ? static_cast<double>(in[i]) : most;
  bool found = false;
  for (size_t i = 0; i < n; ++i) {
    const double term = std::exp(static_cast<double>(in[i]) - most);
    others += !found && static_cast<double>(in[i]) == most ? term - 1.0 : term;
    found = found || static_cast<double>(in[i]) == most;
  }
  std::vector<float> portable(n), in_place(n);
  for (int log = 0; log < 2; ++log) {
    describe("%s functions.softmax: channels %d, log %d", table.name, channels, log);
    float* out = output_memory().last<float>(n);
    const auto run = [&](const KernelTable& of, float* to, const float* from) {
      (log ? of.functions->log_softmax : of.functions->softmax)(to, from, channels);
    };
    run(table, out, in);
    run(kPortableKernels, portable.data(), in);
    std::copy(in, in + n, in_place.begin());
    run(table, in_place.data(), in_place.data());
    for (size_t i = 0; i < n; ++i) {
      const double shifted = static_cast<double>(in[i]) - most;
      const double expected = log ? shifted - std::log1p(others) : std::exp(shifted) / (1.0 + others);
      if (!same(out[i], portable[i])) fail("float, portable", static_cast<long long>(i), out[i], portable[i]);
      if (!same(out[i], in_place[i])) fail("float, in place", static_cast<long long>(i), in_place[i], out[i]);
      if (!is_near(out[i], expected)) fail("float", static_cast<long long>(i), out[i], expected);
    }
  }
}

}  // namespace bitorch
