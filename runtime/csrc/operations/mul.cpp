#include "operations/mul.h"

#include "core/graph/row_operation.h"

namespace bitorch {

MulSpec read_mul(const OperationReader& reader) {
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 2) reader.fail("inputs", "must be two tensors");
  MulSpec spec;
  spec.input = reader.input_named("inputs", names[0], {Values::kFloat32});
  spec.other = reader.input_named("inputs", names[1], {Values::kFloat32});
  const Tensor &input = *spec.input, &other = *spec.other;
  if (!other.same_shape(input) && (other.pixels() != 1 || other.channels != input.channels)) {
    reader.fail("inputs", "the tensor \"" + other.name + "\" is " + other.describe() + ", but \"" + input.name +
                              "\" is " + input.describe() +
                              "; the second must have the shape of the first, or be one pixel of as many channels");
  }
  spec.output = reader.output_like("output", input);
  return spec;
}

namespace {

class Mul : public RowOperation {
 public:
  explicit Mul(const MulSpec& spec)
      : RowOperation("a mul", spec.input->height, {spec.input, spec.other}, {spec.output}),
        spec_(spec),
        one_pixel_(!spec.other->same_shape(*spec.input)) {}

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(*spec_.input) * 0.1; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    float* out = context.floats(*spec_.output, n, y);
    const float* a = context.floats(*spec_.input, n, y);
    const float* b = context.floats(*spec_.other, n, one_pixel_ ? 0 : y);
    const int64_t width = spec_.input->width, channels = spec_.input->channels;
    if (!one_pixel_) return context.kernels->pixels.multiply(out, a, b, 1, width * channels);
    context.kernels->pixels.multiply(out, a, b, width, channels);
  }

  MulSpec spec_;
  bool one_pixel_;
};

}  // namespace

std::unique_ptr<Operation> make_mul(const MulSpec& spec, Preparation&) { return std::make_unique<Mul>(spec); }

}  // namespace bitorch
