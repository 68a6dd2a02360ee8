#include "operations/concat_rows.h"

#include <algorithm>

#include "core/graph/row_operation.h"
#include "operations/copy_pixels.h"

namespace bitorch {

namespace {

// Everything but the axis must be as in the first tensor.
void check(const OperationReader& reader, const RowAxis& axis, const Tensor& input, const Tensor& first) {
  const RowAxes wanted = RowAxis(reader, "axis", first).with_size(axis.size);
  if (input.values == first.values && input.bits == first.bits && input.channels == first.channels &&
      without_leading_ones(wanted) == without_leading_ones(input.axes)) {
    return;
  }
  reader.fail("inputs", "\"" + input.name + "\" is " + input.describe() + ", but \"" + first.name + "\" is " +
                            first.describe() +
                            "; channels, all other axes of rows, and the kind of values must be equal");
}

}  // namespace

ConcatSpec read_concat_rows(const OperationReader& reader) {
  ConcatSpec spec;
  spec.of_rows = true;
  int64_t size = 0;
  for (const std::string& name : reader.names("inputs")) {
    const Tensor* input = reader.input_named("inputs", name, {Values::kFloat32, Values::kCodes});
    spec.inputs.push_back(input);
    const RowAxis axis(reader, "axis", *input);
    check(reader, axis, *input, *spec.inputs[0]);
    size = checked_add(size, axis.size, "the rows of a concat");
    spec.ends.push_back(size);
  }
  const Tensor& first = *spec.inputs[0];
  spec.axis = RowAxis(reader, "axis", first);
  spec.output = reader.output("output", first.values, first.bits, spec.axis.with_size(size), first.channels);
  return spec;
}

namespace {

class ConcatRows : public RowOperation {
 public:
  explicit ConcatRows(const ConcatSpec& spec)
      : RowOperation("a concat", spec.output->height, spec.inputs, {spec.output}), spec_(spec), output_(*spec.output) {}

  bool prefers_planes(const Tensor&, const KernelTable&) const override { return output_.layout.kind == Kind::kPlanes; }

 private:
  double row_cost() const override { return static_cast<double>(output_.width * output_.layout.pixel_bytes) * 0.15; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    uint8_t* out = context.pixel(output_, n, y);
    if (spec_.axis.is_last) {
      for (const Tensor* input : inputs()) {
        copy_from(context, *input, n, y, out);
        out += input->width * output_.layout.pixel_bytes;
      }
      return;
    }
    const int64_t inner = spec_.axis.inner, size = spec_.ends.back();
    const int64_t outer = y / (size * inner), place = y / inner % size;
    const auto i =
        static_cast<size_t>(std::upper_bound(spec_.ends.begin(), spec_.ends.end(), place) - spec_.ends.begin());
    const int64_t begin = i == 0 ? 0 : spec_.ends[i - 1], own = spec_.ends[i] - begin;
    copy_from(context, *inputs()[i], n, (outer * own + place - begin) * inner + y % inner, out);
  }

  // A whole row of an input.
  void copy_from(const RunContext& context, const Tensor& input, int64_t n, int64_t y, uint8_t* out) const {
    copy_pixels(context.kernels->rows, input.layout, context.pixel(input, n, y), output_.layout, out, input.width);
  }

  ConcatSpec spec_;
  const Tensor& output_;
};

}  // namespace

std::unique_ptr<Operation> make_concat_rows(const ConcatSpec& spec) { return std::make_unique<ConcatRows>(spec); }

}  // namespace bitorch
