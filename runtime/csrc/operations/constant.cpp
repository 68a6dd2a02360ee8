#include "operations/constant.h"

#include <cstring>

#include "core/graph/row_operation.h"

namespace bitorch {

ConstantSpec read_constant(const OperationReader& reader) {
  const ArrayView& array = reader.array("values");
  const std::vector<int64_t>& shape = array.shape;
  if (shape.empty() || shape.size() > kMaxAxes) {
    reader.fail("values", "the array is " + array.describe() + ", but must be float32 [rows ..., C], of up to " +
                              std::to_string(kMaxAxes) + " dimensions, or [C]");
  }
  ConstantSpec spec;
  spec.values = reader.floats("values", shape);
  const RowAxes axes = shape.size() > 1 ? RowAxes(shape.begin(), shape.end() - 1) : RowAxes{1, 1};
  spec.output = reader.output("output", Values::kFloat32, 0, axes, shape.back());
  return spec;
}

namespace {

// Copied for each image, which takes as long as reading it once: where only the next operation reads it, rows of it are
// in the cache by then (chain.h).
class Constant : public RowOperation {
 public:
  Constant(const ConstantSpec& spec, Preparation& preparation)
      : RowOperation("a constant", spec.output->height, {}, {spec.output}),
        output_(*spec.output),
        values_(keep(preparation, spec.values, output_.pixels() * output_.channels)) {}

  bool writes_part(const Tensor&) const override { return true; }
  int64_t weight_bytes() const override { return values_->size() * 4; }
  std::string kernel(const KernelTable&) const override { return "copy"; }

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(output_) * 0.1; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    const int64_t channels = output_.channels, width = output_.width, step = output_.layout.pixel_bytes / 4;
    const float* in = values_->data() + y * width * channels;
    float* out = context.floats(output_, n, y);
    if (step == channels) {
      std::memcpy(out, in, static_cast<size_t>(width * channels) * 4);
      return;
    }
    for (int64_t x = 0; x < width; ++x, in += channels, out += step) {
      std::memcpy(out, in, static_cast<size_t>(channels) * 4);
    }
  }

  const Tensor& output_;
  Kept<float> values_;
};

}  // namespace

std::unique_ptr<Operation> make_constant(const ConstantSpec& spec, Preparation& preparation) {
  return std::make_unique<Constant>(spec, preparation);
}

}  // namespace bitorch
