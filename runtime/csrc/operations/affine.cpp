#include "operations/affine.h"

namespace bitorch {

namespace {

void check_parts(const OperationReader& reader) {
  if (reader.has("multiply") != reader.has("offset")) {
    reader.fail("it needs both \"multiply\" and \"offset\", or neither");
  }
  if (reader.has("norm_multiply") != reader.has("norm_offset")) {
    reader.fail("it needs both \"norm_multiply\" and \"norm_offset\", or neither");
  }
  for (const char* part : {"divide", "multiply", "norm_multiply", "residual", "low", "high"}) {
    if (reader.has(part)) return;
  }
  reader.fail(
      "there is nothing to compute: give \"divide\", \"multiply\" and \"offset\", \"norm_multiply\" and "
      "\"norm_offset\", \"residual\", \"low\" or \"high\"");
}

}  // namespace

AffineSpec read_affine(const OperationReader& reader) {
  AffineSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  check_parts(reader);
  const auto channels = [&](const char* key) {
    return reader.has(key) ? reader.floats(key, {spec.input->channels}) : nullptr;
  };
  spec.divide = channels("divide");
  spec.multiply = channels("multiply");
  spec.offset = channels("offset");
  spec.norm_multiply = channels("norm_multiply");
  spec.norm_offset = channels("norm_offset");
  if (reader.has("low")) spec.low = reader.number("low");
  if (reader.has("high")) spec.high = reader.number("high");
  if (spec.low > spec.high) reader.fail("low", "must not be above \"high\"");
  if (reader.has("residual")) {
    spec.residual = reader.input("residual", {Values::kFloat32});
    check_same_shape(reader, "residual", *spec.residual, *spec.input);
  }
  spec.outputs = read_elementwise_outputs(reader, spec.input->axes, spec.input->channels);
  return spec;
}

namespace {

std::vector<const Tensor*> inputs_of(const AffineSpec& spec) {
  if (spec.residual == nullptr) return {spec.input};
  return {spec.input, spec.residual};
}

class Affine : public Elementwise {
 public:
  Affine(const AffineSpec& spec, Preparation& preparation)
      : Elementwise(inputs_of(spec), spec.outputs, preparation),
        low_(spec.low),
        high_(spec.high),
        residual_(spec.residual) {
    divide_ = keep_channels(spec.divide, preparation);
    multiply_ = keep_channels(spec.multiply, preparation);
    offset_ = keep_channels(spec.offset, preparation);
    norm_multiply_ = keep_channels(spec.norm_multiply, preparation);
    norm_offset_ = keep_channels(spec.norm_offset, preparation);
  }

  int64_t weight_bytes() const override {
    int64_t bytes = 0;
    for (const auto* array : {&divide_, &multiply_, &offset_, &norm_multiply_, &norm_offset_}) {
      if (*array != nullptr) bytes += (*array)->size() * 4;
    }
    return bytes;
  }

 private:
  // The array repeated to a period() of values, so that loops over pixels of few channels are long; null where absent.
  Kept<float> keep_channels(const float* values, Preparation& preparation) const {
    if (values == nullptr) return nullptr;
    return keep(preparation, values, shape_.channels, period());
  }

  int64_t period() const {
    constexpr int64_t kLeast = 256;
    return ceil_div(kLeast, shape_.channels) * shape_.channels;
  }

  const float* values(const RunContext& context, const Span& span, float* room) const override {
    const auto data = [](const Kept<float>& array) { return array == nullptr ? nullptr : array->data(); };
    AffineRow row;
    row.x = span_of(context, *inputs()[0], span);
    row.out = room;
    row.divide = data(divide_);
    row.multiply = data(multiply_);
    row.offset = data(offset_);
    row.norm_multiply = data(norm_multiply_);
    row.norm_offset = data(norm_offset_);
    row.residual = residual_ == nullptr ? nullptr : span_of(context, *residual_, span);
    row.n = span.count * shape_.channels;
    row.period = period();
    row.low = low_;
    row.high = high_;
    context.kernels->rows.affine(&row);
    return room;
  }

  Kept<float> divide_, multiply_, offset_, norm_multiply_, norm_offset_;  // [period()], or null
  float low_, high_;
  const Tensor* residual_;
};

}  // namespace

std::unique_ptr<Operation> make_affine(const AffineSpec& spec, Preparation& preparation) {
  return std::make_unique<Affine>(spec, preparation);
}

}  // namespace bitorch
