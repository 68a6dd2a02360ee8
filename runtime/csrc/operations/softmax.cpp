#include "operations/softmax.h"

#include "core/function_kernels.h"
#include "core/graph/row_operation.h"

namespace bitorch {

SoftmaxSpec read_softmax(const OperationReader& reader) {
  SoftmaxSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  spec.log = reader.flag("log", false);
  spec.output = reader.output_like("output", *spec.input);
  return spec;
}

namespace {

class Softmax : public RowOperation {
 public:
  explicit Softmax(const SoftmaxSpec& spec)
      : RowOperation("a softmax", spec.input->height, {spec.input}, {spec.output}), spec_(spec) {}

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(*spec_.input) * 1.0; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    const FunctionKernels& functions = *context.kernels->functions;
    const auto softmax = spec_.log ? functions.log_softmax : functions.softmax;
    const float* in = context.floats(*spec_.input, n, y);
    float* out = context.floats(*spec_.output, n, y);
    const int64_t channels = spec_.input->channels;
    for (int64_t x = 0; x < spec_.input->width; ++x) softmax(out + x * channels, in + x * channels, channels);
  }

  SoftmaxSpec spec_;
};

}  // namespace

std::unique_ptr<Operation> make_softmax(const SoftmaxSpec& spec, Preparation&) {
  return std::make_unique<Softmax>(spec);
}

}  // namespace bitorch
