#include "operations/take.h"

#include "core/graph/row_operation.h"
#include "operations/copy_pixels.h"

namespace bitorch {

TakeSpec read_take(const OperationReader& reader) {
  TakeSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  spec.axis = RowAxis(reader, "axis", input);
  const ArrayView& array = reader.array("indices");
  if (array.shape.size() != 1 || array.shape[0] < 1) {
    reader.fail("indices", "the array is " + array.describe() + ", but must be int32 [K] of one or more places");
  }
  spec.count = array.shape[0];
  spec.indices = reader.integers32("indices", array.shape);
  reader.preparation().budget().work(spec.count);
  for (int64_t k = 0; k < spec.count; ++k) {
    if (spec.indices[k] >= 0 && spec.indices[k] < spec.axis.size) continue;
    reader.fail("indices", "entry " + std::to_string(k) + " is " + std::to_string(spec.indices[k]) +
                               ", but the places along this axis of \"" + input.name + "\" are 0 to " +
                               std::to_string(spec.axis.size - 1));
  }
  spec.output = reader.output("output", input.values, input.bits, spec.axis.with_size(spec.count), input.channels);
  return spec;
}

namespace {

class Take : public RowOperation {
 public:
  Take(const TakeSpec& spec, Preparation& preparation)
      : RowOperation("a take", spec.output->height, {spec.input}, {spec.output}),
        input_(*spec.input),
        output_(*spec.output),
        axis_(spec.axis),
        indices_(keep(preparation, spec.indices, spec.count)) {}

  bool prefers_planes(const Tensor&, const KernelTable&) const override { return output_.layout.kind == Kind::kPlanes; }
  int64_t weight_bytes() const override { return indices_->size() * 4; }

 private:
  double row_cost() const override { return static_cast<double>(output_.width * output_.layout.pixel_bytes) * 0.3; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    const RowFunctions& functions = context.kernels->rows;
    const Layout& from = input_.layout;
    const Layout& to = output_.layout;
    uint8_t* out = context.pixel(output_, n, y);
    const int32_t* indices = indices_->data();
    const int64_t count = indices_->size();
    if (!axis_.is_last) {
      const int64_t place = y / axis_.inner;
      const int64_t source = (place / count * axis_.size + indices[place % count]) * axis_.inner + y % axis_.inner;
      return copy_pixels(functions, from, context.pixel(input_, n, source), to, out, to.width);
    }
    for (int64_t x = 0; x < to.width;) {  // runs of places that lie side by side
      int64_t end = x + 1;
      while (end < to.width && indices[end] == indices[end - 1] + 1) ++end;
      copy_pixels(functions, from, context.pixel(input_, n, y, indices[x]), to, out + x * to.pixel_bytes, end - x);
      x = end;
    }
  }

  const Tensor& input_;
  const Tensor& output_;
  RowAxis axis_;
  Kept<int32_t> indices_;
};

}  // namespace

std::unique_ptr<Operation> make_take(const TakeSpec& spec, Preparation& preparation) {
  return std::make_unique<Take>(spec, preparation);
}

}  // namespace bitorch
