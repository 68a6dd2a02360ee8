// Checks of a table's activation functions: against libm in double, and against the portable table, which every other
// one must equal to the last bit. check_functions goes through all floats.
#include <cmath>

#include "checks.h"
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

// At most one unit in the last place of `expected`, which for numbers that small is the smallest float.
bool within_a_unit(float got, double expected) {
  const float rounded = static_cast<float>(expected);
  if (same(got, rounded)) return true;
  return got == std::nextafterf(rounded, INFINITY) || got == std::nextafterf(rounded, -INFINITY);
}

// Less than 2.5 units in the last place of the true value, which for small numbers is the smallest float.
bool is_near(float got, double expected) {
  const float rounded = static_cast<float>(expected);
  if (same(got, rounded)) return true;
  if (!std::isfinite(got) || !std::isfinite(rounded)) return false;
  const float above = std::nextafterf(std::fabs(rounded), INFINITY);
  return std::fabs(static_cast<double>(got) - expected) <
         2.5 * (static_cast<double>(above) - std::fabs(static_cast<double>(rounded)));
}

float clamp_to_six(float y) { return y < 0.0f ? 0.0f : y > 6.0f ? 6.0f : y; }

void check_leaky_relu(Random& random, const KernelTable& table, const float* in, size_t n) {
  describe("%s activations.leaky_relu: n %zu", table.name, n);
  std::vector<float> slope(n);
  for (float& value : slope) value = any_activation(random);
  float* out = output_memory().last<float>(n);
  table.rows.activations.leaky_relu(out, in, slope.data(), static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const float expected = in[i] > 0.0f ? in[i] : in[i] * slope[i];
    if (!same(out[i], expected)) fail("float", static_cast<long long>(i), out[i], expected);
  }
}

void check_elu(Random& random, const KernelTable& table, const float* in, size_t n) {
  describe("%s activations.elu: n %zu", table.name, n);
  std::vector<float> slope(n), portable(n);
  for (float& value : slope) value = any_activation(random);
  float* out = output_memory().last<float>(n);
  table.rows.activations.elu(out, in, slope.data(), static_cast<int64_t>(n));
  kPortableKernels.rows.activations.elu(portable.data(), in, slope.data(), static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const auto at = static_cast<long long>(i);
    const double x = static_cast<double>(in[i]);
    const double expected = x > 0.0 ? x : static_cast<double>(slope[i]) * std::expm1(x);
    if (!same(out[i], portable[i])) fail("float, portable", at, out[i], portable[i]);
    if (static_cast<double>(out[i]) != expected && !is_near(out[i], expected)) fail("float", at, out[i], expected);
  }
}

}  // namespace

void check_activations(Random& random, const KernelTable& table) {
  using Function = void (*ActivationFunctions::*)(float*, const float*, int64_t);
  struct Known {
    const char* name;
    Function function;
    double (*expected)(double);
  };
  static const Known kFunctions[] = {
      {"hardswish", &ActivationFunctions::hardswish, nullptr},
      {"hardsigmoid", &ActivationFunctions::hardsigmoid, nullptr},
      {"sigmoid", &ActivationFunctions::sigmoid, [](double x) { return 1.0 / (1.0 + std::exp(-x)); }},
      {"tanh", &ActivationFunctions::tanh, [](double x) { return std::tanh(x); }},
      {"silu", &ActivationFunctions::silu, [](double x) { return x / (1.0 + std::exp(-x)); }},
      {"gelu", &ActivationFunctions::gelu, true_gelu},
      {"gelu_tanh", &ActivationFunctions::gelu_tanh, true_gelu_tanh},
  };
  const size_t n = static_cast<size_t>(random.from(1, 90));
  float* in = input_memory().last<float>(n);
  for (size_t i = 0; i < n; ++i) in[i] = any_activation(random);
  std::vector<float> portable(n);
  for (const Known& known : kFunctions) {
    describe("%s activations.%s: n %zu", table.name, known.name, n);
    float* out = output_memory().last<float>(n);
    (table.rows.activations.*known.function)(out, in, static_cast<int64_t>(n));
    (kPortableKernels.rows.activations.*known.function)(portable.data(), in, static_cast<int64_t>(n));
    for (size_t i = 0; i < n; ++i) {
      const auto at = static_cast<long long>(i);
      if (!same(out[i], portable[i])) fail("float, portable", at, out[i], portable[i]);
      if (known.expected != nullptr) {
        const double expected = known.expected(static_cast<double>(in[i]));
        if (!is_near(out[i], expected)) fail("float", at, out[i], expected);
        continue;
      }
      const float clamped = clamp_to_six(in[i] + 3.0f);
      const float expected = (known.function == &ActivationFunctions::hardswish ? in[i] * clamped : clamped) / 6.0f;
      if (!same(out[i], expected)) fail("float", at, out[i], expected);
    }
  }
  check_leaky_relu(random, table, in, n);
  check_elu(random, table, in, n);
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
  std::vector<double> room((n + 7) / 8 * 8);
  std::vector<float> portable(n);
  for (int log = 0; log < 2; ++log) {
    describe("%s activations.softmax: channels %d, log %d", table.name, channels, log);
    float* out = output_memory().last<float>(n);
    table.rows.activations.softmax(out, in, room.data(), channels, log);
    kPortableKernels.rows.activations.softmax(portable.data(), in, room.data(), channels, log);
    for (size_t i = 0; i < n; ++i) {
      const double shifted = static_cast<double>(in[i]) - most;
      const double expected = log ? shifted - std::log1p(others) : std::exp(shifted) / (1.0 + others);
      if (!same(out[i], portable[i])) fail("float, portable", static_cast<long long>(i), out[i], portable[i]);
      if (!within_a_unit(out[i], expected)) fail("float", static_cast<long long>(i), out[i], expected);
    }
  }
}

}  // namespace bitorch
