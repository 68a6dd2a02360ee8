// mul: products of two tensors, or of every pixel with one pixel (the gate of a squeeze-and-excitation block).
#include "core/base/rows.h"
#include "operations/operations.h"

namespace bitorch {

namespace {

void multiply(float* out, const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] * b[i];
}

class Mul : public Operation {
 public:
  explicit Mul(const OperationReader& reader) : Operation(reader) {
    reader.allow({"inputs", "output"});
    const std::vector<std::string> names = reader.names("inputs");
    if (names.size() != 2) reader.fail("inputs", "must be two tensors");
    input_ = reader.input_named("inputs", names[0], {Values::kFloat32});
    other_ = reader.input_named("inputs", names[1], {Values::kFloat32});
    one_pixel_ = !other_->same_shape(*input_);
    if (one_pixel_ && (other_->pixels() != 1 || other_->channels != input_->channels)) {
      reader.fail("inputs", "the tensor \"" + other_->name + "\" is " + other_->describe() + ", but \"" + input_->name +
                                "\" is " + input_->describe() +
                                "; the second must have the shape of the first, or be one pixel of as many channels");
    }
    inputs_ = {input_, other_};
    output_ = reader.output("output", Values::kFloat32, 0, input_->axes, input_->channels);
    outputs_ = {output_};
  }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch) * static_cast<double>(input_->pixels()) *
                          static_cast<double>(input_->channels);
    for_rows(context.batch * input_->height, values * 0.25, context.threads, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) run_row(context, row / input_->height, row % input_->height);
    });
  }

 private:
  static const float* row_of(const RunContext& context, const Tensor& tensor, int64_t n, int64_t y) {
    return reinterpret_cast<const float*>(context.data(tensor) + tensor.layout.offset(n, y, 0));
  }

  void run_row(const RunContext& context, int64_t n, int64_t y) const {
    float* out = reinterpret_cast<float*>(context.data(*output_) + output_->layout.offset(n, y, 0));
    const float* a = row_of(context, *input_, n, y);
    const float* b = row_of(context, *other_, n, one_pixel_ ? 0 : y);
    const int64_t width = input_->width, channels = input_->channels;
    if (!one_pixel_) return multiply(out, a, b, width * channels);
    for (int64_t x = 0; x < width; ++x) multiply(out + x * channels, a + x * channels, b, channels);
  }

  bool one_pixel_ = false;
  const Tensor* input_ = nullptr;
  const Tensor* other_ = nullptr;
  const Tensor* output_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_mul(const OperationReader& reader) { return std::make_unique<Mul>(reader); }

}  // namespace bitorch
