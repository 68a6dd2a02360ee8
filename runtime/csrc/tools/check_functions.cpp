// How far functions of floats are from the true values, over all floats: libm in double is true enough. Every table of
// kernels must give the same bits.
//
//   check_functions [--every N] [--kernel NAME]... [--function NAME]...
//
// It takes each N-th of the 2^32 floats, 4099 unless given; 1 takes all, in a minute or two for each function.
//
// It prints the largest distance in units in the last place, and exits with 1 if one is 3 or more, or if tables differ.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "core/base/cpu.h"
#include "core/function_kernels.h"
#include "core/kernels.h"
#include "tool.h"
#include "true_functions.h"

namespace bitorch {
namespace {

constexpr double kMostUnits = 3.0;
constexpr size_t kAtOnce = size_t{1} << 16;

struct Known {
  const char* name;
  FunctionOfFloats function;
  double (*expected)(double);
  std::vector<float> parameters;
};

double exp_minus_one_below_zero(double x) { return x > 0.0 ? x : std::expm1(x); }

// Those of parameters with numbers for which beta·x and x / alpha are exact.
const Known kKnown[] = {
    {"sigmoid", kSigmoid, [](double x) { return 1.0 / (1.0 + std::exp(-x)); }, {}},
    {"logsigmoid", kLogSigmoid, [](double x) { return -true_softplus(-x); }, {}},
    {"tanh", kTanh, [](double x) { return std::tanh(x); }, {}},
    {"silu", kSilu, [](double x) { return x / (1.0 + std::exp(-x)); }, {}},
    {"mish", kMish, true_mish, {}},
    {"gelu", kGelu, true_gelu, {}},
    {"gelu_tanh", kGeluTanh, true_gelu_tanh, {}},
    {"elu", kElu, exp_minus_one_below_zero, std::vector<float>(kAtOnce, 1.0f)},
    {"selu", kSelu, true_selu, {}},
    {"celu", kCelu, [](double x) { return x > 0.0 ? x : 2.0 * std::expm1(x / 2.0); }, {2.0f, 0.5f}},
    {"softplus", kSoftplus, true_softplus, {1.0f, 20.0f}},
    {"softplus of 2x", kSoftplus, [](double x) { return x > 15.0 ? x : true_softplus(2.0 * x) / 2.0; }, {2.0f, 30.0f}},
    {"softsign", kSoftsign, [](double x) { return x / (1.0 + std::fabs(x)); }, {}},
    {"erf", kErf, [](double x) { return std::erf(x); }, {}},
    {"exp", kExp, [](double x) { return std::exp(x); }, {}},
    {"log", kLog, [](double x) { return std::log(x); }, {}},
    {"rsqrt", kRsqrt, [](double x) { return 1.0 / std::sqrt(x); }, {}},
};

// In units in the last place of the true value, which for small numbers is the smallest float; infinite where one is
// NaN or infinite and the other is not.
double units(float got, double expected) {
  const bool is_nan = std::isnan(got), must_be_nan = std::isnan(expected);
  if (is_nan || must_be_nan) return is_nan == must_be_nan ? 0.0 : HUGE_VAL;
  if (static_cast<double>(got) == expected) return 0.0;
  if (std::isinf(got))
    return std::isinf(static_cast<float>(expected)) && (got > 0.0f) == (expected > 0.0) ? 0.0 : HUGE_VAL;
  // std::frexp and std::ldexp take longer than the function.
  uint64_t bits;
  std::memcpy(&bits, &expected, sizeof(bits));
  const int exponent = static_cast<int>(bits >> 52 & 2047) - 1023;  // expected = 1.… · 2^exponent
  bits = static_cast<uint64_t>(1023 - std::max(exponent - 23, -149)) << 52;
  double per_unit;
  std::memcpy(&per_unit, &bits, sizeof(per_unit));
  return std::fabs(static_cast<double>(got) - expected) * per_unit;
}

struct Worst {
  double units = 0.0;
  float at = 0.0f;
};

// One part of the floats, from pattern `first` on; false if a table gives other bits than the first.
bool check_part(const Known& known, const std::vector<const KernelTable*>& tables, const std::vector<float>& in,
                Worst& worst) {
  const auto n = static_cast<int64_t>(in.size());
  std::vector<float> out(in.size()), other(in.size());
  tables[0]->functions->of[known.function](out.data(), in.data(), known.parameters.data(), n);
  for (size_t i = 0; i < in.size(); ++i) {
    const double distance = units(out[i], known.expected(static_cast<double>(in[i])));
    if (distance > worst.units) worst = {distance, in[i]};
  }
  for (size_t t = 1; t < tables.size(); ++t) {
    tables[t]->functions->of[known.function](other.data(), in.data(), known.parameters.data(), n);
    for (size_t i = 0; i < in.size(); ++i) {
      if (std::isnan(out[i]) ? std::isnan(other[i]) : std::memcmp(&out[i], &other[i], sizeof(float)) == 0) continue;
      std::printf("%s of %.9g: %s gives %.9g, %s %.9g\n", known.name, static_cast<double>(in[i]), tables[0]->name,
                  static_cast<double>(out[i]), tables[t]->name, static_cast<double>(other[i]));
      return false;
    }
  }
  return true;
}

bool check(const Known& known, const std::vector<const KernelTable*>& tables, uint64_t every) {
  Worst worst;
  std::vector<float> in;
  in.reserve(kAtOnce);
  for (uint64_t pattern = 0; pattern < uint64_t{1} << 32; pattern += every) {
    const auto bits = static_cast<uint32_t>(pattern);
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    in.push_back(x);
    if (in.size() < kAtOnce && pattern + every < uint64_t{1} << 32) continue;
    if (!check_part(known, tables, in, worst)) return false;
    in.clear();
  }
  std::printf("%-14s %.3f units at %.9g\n", known.name, worst.units, static_cast<double>(worst.at));
  std::fflush(stdout);
  return worst.units < kMostUnits;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, "check_functions [--every N] [--kernel NAME] [--function NAME]",
                            {"--every", "--kernel", "--function"});
  if (!arguments.paths().empty()) arguments.fail("it takes no files");
  const auto every = static_cast<uint64_t>(arguments.number("--every", 4099, 1, 1000000000));
  std::vector<std::string> names = arguments.texts("--kernel");
  if (names.empty()) names = available_kernels();
  std::vector<const KernelTable*> tables;
  for (const std::string& name : names) tables.push_back(&kernels(name));
  const std::vector<std::string> functions = arguments.texts("--function");
  for (const std::string& name : functions) {
    const auto is_it = [&](const Known& known) { return name == known.name; };
    if (std::none_of(std::begin(kKnown), std::end(kKnown), is_it)) arguments.fail("there is no function " + name);
  }
  bool ok = true;
  for (const Known& known : kKnown) {
    const bool is_wanted = std::find(functions.begin(), functions.end(), known.name) != functions.end();
    if (functions.empty() || is_wanted) ok = check(known, tables, every) && ok;
  }
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace bitorch

int main(int argc, char** argv) { return bitorch::run_tool("check_functions", bitorch::run, argc, argv); }
