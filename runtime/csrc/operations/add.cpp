#include "operations/add.h"

#include "operations/broadcast.h"

namespace bitorch {

AddSpec read_add(const OperationReader& reader) {
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 2) reader.fail("inputs", "must be two tensors");
  AddSpec spec;
  spec.input = reader.input_named("inputs", names[0], {Values::kFloat32});
  spec.other = reader.input_named("inputs", names[1], {Values::kFloat32});
  const BroadcastShape shape(reader, "inputs", {spec.input, spec.other});
  spec.relu = reader.flag("relu", false);
  spec.outputs = read_elementwise_outputs(reader, shape.axes, shape.channels);
  return spec;
}

namespace {

class Add : public Elementwise {
 public:
  Add(const AddSpec& spec, Preparation& preparation)
      : Elementwise({spec.input, spec.other}, spec.outputs, preparation),
        one_(*spec.input, shape_),
        other_(*spec.other, shape_),
        relu_(spec.relu) {
    for (const Tensor* input : {spec.other, spec.input}) {
      if (input->same_shape(shape_)) same_ = input;
    }
  }

  const Tensor* overwrites(const Tensor& output) const override { return output.is_codes() ? nullptr : same_; }

 private:
  const float* values(const RunContext& context, const Span& span, float* room) const override {
    PairRow row;
    row.out = room;
    row.out_step = row.n = shape_.channels;
    row.a = one_.pixels(context, span.n, span.y, span.x);
    row.b = other_.pixels(context, span.n, span.y, span.x);
    row.c = row.a;
    row.pixels = span.count;
    context.kernels->pairs->functions[kPairAdd](&row);
    if (relu_) rectify(room, span.count * shape_.channels);
    return room;
  }

  static void rectify(float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = y[i] < 0.0f ? 0.0f : y[i];  // keeps NaN
  }

  Broadcast one_, other_;
  const Tensor* same_ = nullptr;  // the first input of the result's shape
  bool relu_;
};

}  // namespace

std::unique_ptr<Operation> make_add(const AddSpec& spec, Preparation& preparation) {
  return std::make_unique<Add>(spec, preparation);
}

}  // namespace bitorch
