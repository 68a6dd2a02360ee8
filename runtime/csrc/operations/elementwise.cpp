#include "operations/elementwise.h"

#include <algorithm>
#include <utility>

#include "operations/code_keys.h"

namespace bitorch {

namespace {

constexpr int64_t kSpanValues = 4096;

}  // namespace

std::vector<const Tensor*> tensors_of(const ElementwiseOutputs& outputs) {
  std::vector<const Tensor*> tensors;
  if (outputs.floats != nullptr) tensors.push_back(outputs.floats);
  if (outputs.codes != nullptr) tensors.push_back(outputs.codes);
  return tensors;
}

ElementwiseOutputs read_elementwise_codes(const OperationReader& reader, const char* key, const RowAxes& axes,
                                          int64_t channels) {
  ElementwiseOutputs outputs;
  outputs.rule = read_code_keys(reader, channels, false);
  outputs.codes = reader.output(key, Values::kCodes, outputs.rule.bits, axes, channels);
  return outputs;
}

ElementwiseOutputs read_elementwise_outputs(const OperationReader& reader, const RowAxes& axes, int64_t channels) {
  const Tensor* floats = nullptr;
  if (reader.has("float32")) floats = reader.output("float32", Values::kFloat32, 0, axes, channels);
  ElementwiseOutputs outputs;
  if (reader.has("codes")) {
    outputs = read_elementwise_codes(reader, "codes", axes, channels);
  } else {
    refuse_code_keys(reader);
  }
  outputs.floats = floats;
  if (floats == nullptr && outputs.codes == nullptr) reader.fail("needs an output: \"float32\" or \"codes\"");
  return outputs;
}

void check_same_shape(const OperationReader& reader, const char* key, const Tensor& other, const Tensor& shape) {
  if (other.same_shape(shape)) return;
  reader.fail(key, "the tensor \"" + other.name + "\" is " + other.describe() + ", but \"" + shape.name + "\" is " +
                       shape.describe() + "; their shapes must be equal");
}

Elementwise::Elementwise(std::vector<const Tensor*> inputs, const ElementwiseOutputs& outputs, Preparation& preparation)
    : RowOperation("a tensor", tensors_of(outputs)[0]->height, inputs, tensors_of(outputs)),
      shape_(*tensors_of(outputs)[0]),
      floats_(outputs.floats),
      codes_(outputs.codes) {
  if (codes_ != nullptr) writer_ = CodeWriter(outputs.rule, shape_.channels, preparation);
}

void Elementwise::plan(const KernelTable&, Preparation&) {
  for (const Tensor* input : inputs()) adjoin_ = adjoin_ && input->layout.pixels_adjoin();
  step_ = std::clamp<int64_t>(kSpanValues / shape_.channels, 1, shape_.width);
  values_bytes_ = room(checked_mul(step_, shape_.channels, what()), 4);
  part_bytes_ = values_bytes_ + writer_.scratch_bytes();
}

double Elementwise::row_cost() const {
  return row_values(shape_) * (0.25 + (writer_ ? writer_.nanoseconds_per_value() : 0.0));
}

const float* Elementwise::all_values(const RunContext& context, const Span& span, float* room) const {
  if (adjoin_) return values(context, span, room);
  Span pixel = {span.n, span.y, span.x, 1};
  const float* first = values(context, pixel, room);
  if (first != room) return first;
  while (++pixel.x < span.x + span.count) values(context, pixel, room + (pixel.x - span.x) * shape_.channels);
  return first;
}

void Elementwise::run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const {
  for (int64_t x = 0; x < shape_.width; x += step_) {
    const Span span = {n, y, x, std::min(step_, shape_.width - x)};
    float* room = floats_ != nullptr ? context.floats(*floats_, n, y, x) : reinterpret_cast<float*>(scratch);
    const float* in = all_values(context, span, room);
    if (!writer_) continue;
    const int64_t step = in == room ? shape_.channels : inputs()[0]->layout.pixel_bytes / 4;
    writer_.write(*context.kernels, codes_->layout, in, step, span.count, context.pixel(*codes_, n, y, x),
                  scratch + values_bytes_);
  }
}

}  // namespace bitorch
