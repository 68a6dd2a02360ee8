#include "operations/activation.h"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/graph/row_operation.h"

namespace bitorch {

namespace {

struct NamedFunction {
  const char* name;
  FunctionOfFloats id;
  double nanoseconds;   // per value, about
  const char* keys[2];  // what it needs beside its tensors; null where there is no more
};

constexpr NamedFunction kFunctions[] = {
    {"leaky_relu", kLeakyRelu, 0.1, {"slope", nullptr}},
    {"elu", kElu, 0.3, {"slope", nullptr}},
    {"selu", kSelu, 0.3, {nullptr, nullptr}},
    {"celu", kCelu, 0.3, {"alpha", nullptr}},
    {"hardswish", kHardswish, 0.2, {nullptr, nullptr}},
    {"hardsigmoid", kHardsigmoid, 0.2, {nullptr, nullptr}},
    {"sigmoid", kSigmoid, 0.3, {nullptr, nullptr}},
    {"logsigmoid", kLogSigmoid, 0.5, {nullptr, nullptr}},
    {"tanh", kTanh, 0.3, {nullptr, nullptr}},
    {"silu", kSilu, 0.3, {nullptr, nullptr}},
    {"mish", kMish, 0.4, {nullptr, nullptr}},
    {"gelu", kGelu, 0.5, {nullptr, nullptr}},
    {"gelu_tanh", kGeluTanh, 0.5, {nullptr, nullptr}},
    {"softplus", kSoftplus, 0.5, {"beta", "threshold"}},
    {"softsign", kSoftsign, 0.2, {nullptr, nullptr}},
    {"erf", kErf, 0.4, {nullptr, nullptr}},
    {"exp", kExp, 0.2, {nullptr, nullptr}},
    {"log", kLog, 0.4, {nullptr, nullptr}},
    {"sqrt", kSqrt, 0.2, {nullptr, nullptr}},
    {"rsqrt", kRsqrt, 0.4, {nullptr, nullptr}},
    {"reciprocal", kReciprocal, 0.2, {nullptr, nullptr}},
    {"abs", kAbs, 0.1, {nullptr, nullptr}},
    {"sign", kSign, 0.1, {nullptr, nullptr}},
    {"threshold", kThreshold, 0.1, {"threshold", "value"}},
    {"hardshrink", kHardshrink, 0.1, {"lambda", nullptr}},
    {"softshrink", kSoftshrink, 0.1, {"lambda", nullptr}},
};

const NamedFunction& function_of(FunctionOfFloats id) {
  for (const NamedFunction& known : kFunctions) {
    if (known.id == id) return known;
  }
  throw Error("an activation of unknown function");
}

const NamedFunction& read_function(const OperationReader& reader) {
  const std::string name = reader.choice(
      "function",
      {"leaky_relu", "elu",   "selu",       "celu",      "hardswish", "hardsigmoid", "sigmoid",    "logsigmoid", "tanh",
       "silu",       "mish",  "gelu",       "gelu_tanh", "softplus",  "softsign",    "erf",        "exp",        "log",
       "sqrt",       "rsqrt", "reciprocal", "abs",       "sign",      "threshold",   "hardshrink", "softshrink"});
  for (const NamedFunction& known : kFunctions) {
    if (name == known.name) return known;
  }
  throw Error("an activation of unknown name");
}

bool needs(const NamedFunction& function, const std::string& key) {
  for (const char* needed : function.keys) {
    if (needed != nullptr && key == needed) return true;
  }
  return false;
}

// "a", "b" and "c": the functions that need a key.
std::string functions_with(const std::string& key) {
  std::string names, last;
  for (const NamedFunction& known : kFunctions) {
    if (!needs(known, key)) continue;
    if (!last.empty()) names += (names.empty() ? "\"" : ", \"") + last + "\"";
    last = known.name;
  }
  return names.empty() ? "\"" + last + "\"" : names + " or \"" + last + "\"";
}

void refuse_other_keys(const OperationReader& reader, const NamedFunction& function) {
  for (const char* key : {"slope", "alpha", "beta", "threshold", "value", "lambda"}) {
    if (!reader.has(key) || needs(function, key)) continue;
    reader.fail(key, "has a meaning only with \"function\": " + functions_with(key));
  }
}

float read_positive(const OperationReader& reader, const char* key) {
  const float value = reader.number(key);
  if (!(value > 0.0f)) reader.fail(key, "must be above 0");
  return value;
}

void read_parameters(const OperationReader& reader, ActivationSpec* spec) {
  switch (spec->function) {
    case kCelu:
      spec->parameters[0] = read_positive(reader, "alpha");
      spec->parameters[1] = static_cast<float>(1.0 / static_cast<double>(spec->parameters[0]));
      break;
    case kSoftplus:
      spec->parameters[0] = read_positive(reader, "beta");
      spec->parameters[1] = reader.number("threshold");
      break;
    case kThreshold:
      spec->parameters[0] = reader.number("threshold");
      spec->parameters[1] = reader.number("value");
      break;
    case kHardshrink:
    case kSoftshrink:
      spec->parameters[0] = reader.number("lambda");
      if (spec->parameters[0] < 0.0f) reader.fail("lambda", "must not be below 0");
      break;
    default:
      break;
  }
}

}  // namespace

ActivationSpec read_activation(const OperationReader& reader) {
  ActivationSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  const NamedFunction& function = read_function(reader);
  spec.function = function.id;
  refuse_other_keys(reader, function);
  if (needs(function, "slope")) spec.slope = reader.floats("slope", {spec.input->channels});
  read_parameters(reader, &spec);
  spec.output = reader.output_like("output", *spec.input);
  return spec;
}

namespace {

class Activation : public RowOperation {
 public:
  Activation(const ActivationSpec& spec, Preparation& preparation)
      : RowOperation("an activation", spec.input->height, {spec.input}, {spec.output}),
        spec_(spec),
        nanoseconds_(function_of(spec.function).nanoseconds) {
    if (spec.slope == nullptr) return;
    // The slopes of as many pixels as give loops something to do.
    constexpr int64_t kAtOnce = 256;
    const int64_t channels = spec.input->channels;
    slope_ = keep(preparation, spec.slope, channels, round_up(std::max(kAtOnce, channels), channels));
  }

  int64_t weight_bytes() const override { return slope_ == nullptr ? 0 : slope_->size() * 4; }

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(*spec_.input) * nanoseconds_; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    const ApplyFunction apply = context.kernels->functions->of[spec_.function];
    const float* in = context.floats(*spec_.input, n, y);
    float* out = context.floats(*spec_.output, n, y);
    const int64_t values = spec_.input->width * spec_.input->channels;
    if (slope_ == nullptr) return apply(out, in, spec_.parameters, values);
    const int64_t period = slope_->size();
    for (int64_t i = 0; i < values; i += period) {
      apply(out + i, in + i, slope_->data(), std::min(period, values - i));
    }
  }

  ActivationSpec spec_;
  double nanoseconds_;
  Kept<float> slope_;  // of functions with slopes, else null
};

}  // namespace

std::unique_ptr<Operation> make_activation(const ActivationSpec& spec, Preparation& preparation) {
  return std::make_unique<Activation>(spec, preparation);
}

}  // namespace bitorch
