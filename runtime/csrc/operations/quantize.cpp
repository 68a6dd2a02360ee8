#include "operations/quantize.h"

namespace bitorch {

QuantizeSpec read_quantize(const OperationReader& reader) {
  QuantizeSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  spec.outputs = read_elementwise_codes(reader, "output", spec.input->axes, spec.input->channels);
  return spec;
}

namespace {

class Quantize : public Elementwise {
 public:
  Quantize(const QuantizeSpec& spec, Preparation& preparation) : Elementwise({spec.input}, spec.outputs, preparation) {}

 private:
  const float* values(const RunContext& context, const Span& span, float*) const override {
    return span_of(context, *inputs()[0], span);
  }
};

}  // namespace

std::unique_ptr<Operation> make_quantize(const QuantizeSpec& spec, Preparation& preparation) {
  return std::make_unique<Quantize>(spec, preparation);
}

}  // namespace bitorch
