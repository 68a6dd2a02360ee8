#include "operations/quantize.h"

namespace bitorch {

QuantizeSpec read_quantize(const OperationReader& reader) {
  QuantizeSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  spec.outputs = read_elementwise_codes(reader, "output", spec.input->axes, spec.input->channels);
  if (!reader.has("zero_point")) return spec;
  if (reader.has("thresholds")) reader.fail("zero_point", "has no meaning beside \"thresholds\"");
  spec.rounds = true;
  spec.zero_point = static_cast<int>(reader.integer("zero_point", 0, (int64_t{1} << spec.outputs.rule.bits) - 1));
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

// Hands k / n to the unit quantizer, which gives k for it: the product with a rounded 1 / n is far nearer than a half.
class QuantizeRounded : public Elementwise {
 public:
  QuantizeRounded(const QuantizeSpec& spec, Preparation& preparation)
      : Elementwise({spec.input}, spec.outputs, preparation),
        zero_point_(static_cast<float>(spec.zero_point)),
        largest_(static_cast<float>((1 << spec.outputs.rule.bits) - 1)) {}

 private:
  const float* values(const RunContext& context, const Span& span, float* room) const override {
    const float* const in = span_of(context, *inputs()[0], span);
    const float low = -zero_point_, high = largest_ - zero_point_, zero = zero_point_, share = 1.0f / largest_;
    const int64_t count = span.count * shape_.channels;
    for (int64_t i = 0; i < count; ++i) {
      float v = in[i] > low ? in[i] : low;  // low of NaN
      v = v < high ? v : high;
      constexpr float kInteger = 12582912.0f;  // 1.5 * 2^23, above which floats are integers: halves go to even
      room[i] = ((v + kInteger) - kInteger + zero) * share;
    }
    return room;
  }

  float zero_point_, largest_;
};

}  // namespace

std::unique_ptr<Operation> make_quantize(const QuantizeSpec& spec, Preparation& preparation) {
  if (spec.rounds) return std::make_unique<QuantizeRounded>(spec, preparation);
  return std::make_unique<Quantize>(spec, preparation);
}

}  // namespace bitorch
