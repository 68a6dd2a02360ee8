// activation: one function of every float32.
#include <algorithm>

#include "core/base/rows.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

using FunctionOfFloats = void (*ActivationFunctions::*)(float*, const float*, int64_t);

struct NamedFunction {
  const char* name;
  FunctionOfFloats function;
  double nanoseconds;  // per value, about
};

constexpr NamedFunction kFunctions[] = {
    {"hardswish", &ActivationFunctions::hardswish, 0.2}, {"hardsigmoid", &ActivationFunctions::hardsigmoid, 0.2},
    {"sigmoid", &ActivationFunctions::sigmoid, 2.0},     {"tanh", &ActivationFunctions::tanh, 2.0},
    {"silu", &ActivationFunctions::silu, 2.0},
};

class Activation : public Operation {
 public:
  explicit Activation(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "function", "slope"});
    input_ = reader.input("input", {Values::kFloat32});
    inputs_ = {input_};
    const std::string name =
        reader.choice("function", {"leaky_relu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu"});
    for (const NamedFunction& known : kFunctions) {
      if (name == known.name) function_ = &known;
    }
    if (function_ == nullptr) {
      read_slope(reader);
    } else if (reader.has("slope")) {
      reader.fail("slope", "has a meaning only with \"function\": \"leaky_relu\"");
    }
    output_ = reader.output("output", Values::kFloat32, 0, input_->axes, input_->channels);
    outputs_ = {output_};
  }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(input_->pixels()) *
                          static_cast<double>(input_->channels);
    const double cost = values * (function_ != nullptr ? function_->nanoseconds : 0.2);
    for_rows(context.batch * input_->height, cost, context.threads, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) run_row(context, row / input_->height, row % input_->height);
    });
  }

  int64_t weight_bytes() const override { return slope_ == nullptr ? 0 : slope_->size() * 4; }

 private:
  // The slopes of as many pixels as give loops something to do.
  void read_slope(const OperationReader& reader) {
    constexpr int64_t kAtOnce = 256;
    const int64_t channels = input_->channels;
    slope_ = reader.keep(reader.floats("slope", {channels}), channels, round_up(std::max(kAtOnce, channels), channels));
  }

  void run_row(const RunContext& context, int64_t n, int64_t y) const {
    const ActivationFunctions& functions = context.kernels->rows.activations;
    const float* in = reinterpret_cast<const float*>(context.data(*input_) + input_->layout.offset(n, y, 0));
    float* out = reinterpret_cast<float*>(context.data(*output_) + output_->layout.offset(n, y, 0));
    const int64_t values = input_->width * input_->channels;
    if (function_ != nullptr) return (functions.*function_->function)(out, in, values);
    const int64_t period = slope_->size();
    for (int64_t i = 0; i < values; i += period) {
      functions.leaky_relu(out + i, in + i, slope_->data(), std::min(period, values - i));
    }
  }

  const NamedFunction* function_ = nullptr;  // null: leaky_relu
  Kept<float> slope_;
  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_activation(const OperationReader& reader) {
  return std::make_unique<Activation>(reader);
}

}  // namespace bitorch
