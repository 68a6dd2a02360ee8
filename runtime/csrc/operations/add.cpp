#include "operations/add.h"

namespace bitorch {

AddSpec read_add(const OperationReader& reader) {
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 2) reader.fail("inputs", "must be two tensors");
  AddSpec spec;
  spec.input = reader.input_named("inputs", names[0], {Values::kFloat32});
  spec.other = reader.input_named("inputs", names[1], {Values::kFloat32});
  check_same_shape(reader, "inputs", *spec.other, *spec.input);
  spec.relu = reader.flag("relu", false);
  spec.outputs = read_elementwise_outputs(reader, *spec.input);
  return spec;
}

namespace {

class Add : public Elementwise {
 public:
  Add(const AddSpec& spec, Preparation& preparation)
      : Elementwise({spec.input, spec.other}, spec.outputs, preparation), other_(*spec.other), relu_(spec.relu) {}

 private:
  const float* values(const RunContext& context, const Span& span, float* room) const override {
    const float* a = span_of(context, shape_, span);
    const float* b = span_of(context, other_, span);
    const int64_t n = span.count * shape_.channels;
    if (relu_) {
      for (int64_t i = 0; i < n; ++i) {
        const float y = a[i] + b[i];
        room[i] = y < 0.0f ? 0.0f : y;  // keeps NaN
      }
    } else {
      for (int64_t i = 0; i < n; ++i) room[i] = a[i] + b[i];
    }
    return room;
  }

  const Tensor& other_;
  bool relu_;
};

}  // namespace

std::unique_ptr<Operation> make_add(const AddSpec& spec, Preparation& preparation) {
  return std::make_unique<Add>(spec, preparation);
}

}  // namespace bitorch
