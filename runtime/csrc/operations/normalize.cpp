#include "operations/normalize.h"

#include <algorithm>

#include "operations/normalize_sets.h"

namespace bitorch {

namespace {

NormalizeBy read_by(const OperationReader& reader) {
  const std::string by = reader.choice("by", {"deviation", "root_mean_square", "norm"});
  return by == "deviation" ? kDeviation : by == "norm" ? kNorm : kRootMeanSquare;
}

// The rows of pixels of the last `count` axes, of all of them where there are fewer.
int64_t rows_of_axes(const Tensor& input, int64_t count) {
  const RowAxes& axes = input.axes;
  const int64_t outer = std::max<int64_t>(0, static_cast<int64_t>(axes.size()) - count);
  int64_t rows = 1;
  for (size_t i = static_cast<size_t>(outer); i + 1 < axes.size(); ++i) rows *= axes[i];
  return rows;
}

// One number for each channel or, where the array has two dimensions, for each channel at each place.
const float* read_weights(const OperationReader& reader, const char* key, const NormalizeSpec& spec, bool* by_place) {
  if (!reader.has(key)) return nullptr;
  *by_place = reader.array(key).shape.size() == 2;
  if (*by_place) return reader.floats(key, {spec.places(), spec.input->channels});
  return reader.floats(key, {spec.input->channels});
}

}  // namespace

NormalizeSpec read_normalize(const OperationReader& reader) {
  NormalizeSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  const Tensor& input = *spec.input;
  spec.by = read_by(reader);
  const int64_t rows = reader.has("rows") ? reader.integer("rows", 0, static_cast<int64_t>(kMaxAxes) - 1) : 0;
  spec.each_place = rows == 0;
  spec.set_rows = spec.each_place ? 1 : rows_of_axes(input, rows);
  if (reader.has("groups")) spec.groups = reader.integer("groups", 1, kMaxChannels);
  if (input.channels % spec.groups != 0) {
    reader.fail("groups", "must divide the channels of \"" + input.name + "\", " + std::to_string(input.channels));
  }
  spec.eps = reader.number("eps");
  if (spec.eps < 0.0f) reader.fail("eps", "must not be below 0");
  spec.weight = read_weights(reader, "weight", spec, &spec.weight_by_place);
  spec.bias = read_weights(reader, "bias", spec, &spec.bias_by_place);
  spec.outputs = read_elementwise_outputs(reader, input.axes, input.channels);
  return spec;
}

namespace {

// Each place by itself.
class Normalize : public Elementwise {
 public:
  Normalize(const NormalizeSpec& spec, Preparation& preparation)
      : Elementwise({spec.input}, spec.outputs, preparation),
        by_(spec.by),
        groups_(spec.groups),
        eps_(spec.eps),
        weight_(keep_weights(spec, spec.weight, false, preparation)),
        bias_(keep_weights(spec, spec.bias, false, preparation)) {}

  int64_t weight_bytes() const override {
    return ((weight_ == nullptr ? 0 : weight_->size()) + (bias_ == nullptr ? 0 : bias_->size())) * 4;
  }

 private:
  const float* values(const RunContext& context, const Span& span, float* room) const override {
    NormalizePixels pixels = {};
    pixels.in = span_of(context, *inputs()[0], span);
    pixels.out = room;
    pixels.weight = weight_ == nullptr ? nullptr : weight_->data();
    pixels.bias = bias_ == nullptr ? nullptr : bias_->data();
    pixels.pixels = span.count;
    pixels.channels = shape_.channels;
    pixels.groups = groups_;
    pixels.by = by_;
    pixels.eps = eps_;
    context.kernels->norms->normalize(&pixels);
    return room;
  }

  NormalizeBy by_;
  int64_t groups_;
  float eps_;
  Kept<float> weight_, bias_;  // [channels], or null
};

}  // namespace

std::unique_ptr<Operation> make_normalize(const NormalizeSpec& spec, Preparation& preparation) {
  if (!spec.each_place) return make_normalize_sets(spec, preparation);
  return std::make_unique<Normalize>(spec, preparation);
}

}  // namespace bitorch
