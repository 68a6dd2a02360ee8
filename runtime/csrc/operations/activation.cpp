#include "operations/activation.h"

#include <algorithm>

#include "core/graph/row_operation.h"

namespace bitorch {

namespace {

using FunctionOfFloats = void (*ActivationFunctions::*)(float*, const float*, int64_t);
using FunctionWithSlopes = void (*ActivationFunctions::*)(float*, const float*, const float*, int64_t);

struct NamedFunction {
  const char* name;
  ActivationFunction id;
  FunctionOfFloats function;       // null of those with a slope for each channel
  FunctionWithSlopes with_slopes;  // null of the others
  double nanoseconds;              // per value, about
};

constexpr NamedFunction kFunctions[] = {
    {"leaky_relu", ActivationFunction::kLeakyRelu, nullptr, &ActivationFunctions::leaky_relu, 0.2},
    {"elu", ActivationFunction::kElu, nullptr, &ActivationFunctions::elu, 0.5},
    {"hardswish", ActivationFunction::kHardswish, &ActivationFunctions::hardswish, nullptr, 0.2},
    {"hardsigmoid", ActivationFunction::kHardsigmoid, &ActivationFunctions::hardsigmoid, nullptr, 0.2},
    {"sigmoid", ActivationFunction::kSigmoid, &ActivationFunctions::sigmoid, nullptr, 0.5},
    {"tanh", ActivationFunction::kTanh, &ActivationFunctions::tanh, nullptr, 0.5},
    {"silu", ActivationFunction::kSilu, &ActivationFunctions::silu, nullptr, 0.5},
    {"gelu", ActivationFunction::kGelu, &ActivationFunctions::gelu, nullptr, 1.2},
    {"gelu_tanh", ActivationFunction::kGeluTanh, &ActivationFunctions::gelu_tanh, nullptr, 1.0},
};

const NamedFunction& function_of(ActivationFunction id) {
  for (const NamedFunction& known : kFunctions) {
    if (known.id == id) return known;
  }
  throw Error("an activation of unknown function");
}

}  // namespace

ActivationSpec read_activation(const OperationReader& reader) {
  ActivationSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  const std::string name = reader.choice(
      "function", {"leaky_relu", "elu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"});
  for (const NamedFunction& known : kFunctions) {
    if (name == known.name) spec.function = known.id;
  }
  if (function_of(spec.function).with_slopes != nullptr) {
    spec.slope = reader.floats("slope", {spec.input->channels});
  } else if (reader.has("slope")) {
    reader.fail("slope", "has a meaning only with \"function\": \"leaky_relu\" or \"elu\"");
  }
  spec.output = reader.output_like("output", *spec.input);
  return spec;
}

namespace {

class Activation : public RowOperation {
 public:
  Activation(const ActivationSpec& spec, Preparation& preparation)
      : RowOperation("an activation", spec.input->height, {spec.input}, {spec.output}),
        spec_(spec),
        function_(function_of(spec.function)) {
    if (spec.slope == nullptr) return;
    // The slopes of as many pixels as give loops something to do.
    constexpr int64_t kAtOnce = 256;
    const int64_t channels = spec.input->channels;
    slope_ = keep(preparation, spec.slope, channels, round_up(std::max(kAtOnce, channels), channels));
  }

  int64_t weight_bytes() const override { return slope_ == nullptr ? 0 : slope_->size() * 4; }

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(*spec_.input) * function_.nanoseconds; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    const ActivationFunctions& functions = context.kernels->rows.activations;
    const float* in = context.floats(*spec_.input, n, y);
    float* out = context.floats(*spec_.output, n, y);
    const int64_t values = spec_.input->width * spec_.input->channels;
    if (function_.function != nullptr) return (functions.*function_.function)(out, in, values);
    const int64_t period = slope_->size();
    for (int64_t i = 0; i < values; i += period) {
      (functions.*function_.with_slopes)(out + i, in + i, slope_->data(), std::min(period, values - i));
    }
  }

  ActivationSpec spec_;
  const NamedFunction& function_;
  Kept<float> slope_;  // of functions with slopes, else null
};

}  // namespace

std::unique_ptr<Operation> make_activation(const ActivationSpec& spec, Preparation& preparation) {
  return std::make_unique<Activation>(spec, preparation);
}

}  // namespace bitorch
