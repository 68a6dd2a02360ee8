// concat along an axis of rows: tensors of as many channels one behind the other.
#include <algorithm>

#include "core/base/rows.h"
#include "operations/copy_pixels.h"
#include "operations/operations.h"
#include "operations/row_axis.h"

namespace bitorch {

namespace {

class ConcatRows : public Operation {
 public:
  explicit ConcatRows(const OperationReader& reader) : Operation(reader) {
    reader.allow({"inputs", "output", "axis"});
    for (const std::string& name : reader.names("inputs")) {
      const Tensor* input = reader.input_named("inputs", name, {Values::kFloat32, Values::kCodes});
      inputs_.push_back(input);
      const RowAxis axis(reader, "axis", *input);
      check(reader, axis, *input);
      size_ = checked_add(size_, axis.size, "the rows of a concat");
      ends_.push_back(size_);
    }
    const Tensor* first = inputs_[0];
    axis_ = RowAxis(reader, "axis", *first);
    output_ = reader.output("output", first->values, first->bits, axis_.with_size(size_), first->channels);
    outputs_ = {output_};
  }

  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes;
  }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double bytes = static_cast<double>(context.batch * output_->height) *
                         static_cast<double>(output_->width * output_->layout.pixel_bytes);
    for_rows(context.batch * output_->height, bytes * 0.15, context.threads, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) run_row(context, row / output_->height, row % output_->height);
    });
  }

 private:
  // Everything but the axis must be as in the first tensor.
  void check(const OperationReader& reader, const RowAxis& axis, const Tensor& input) const {
    const Tensor* first = inputs_[0];
    const RowAxes wanted = RowAxis(reader, "axis", *first).with_size(axis.size);
    if (input.values == first->values && input.bits == first->bits && input.channels == first->channels &&
        without_leading_ones(wanted) == without_leading_ones(input.axes)) {
      return;
    }
    reader.fail("inputs", "\"" + input.name + "\" is " + input.describe() + ", but \"" + first->name + "\" is " +
                              first->describe() +
                              "; channels, all other axes of rows, and the kind of values must be equal");
  }

  void run_row(const RunContext& context, int64_t n, int64_t y) const {
    const Layout& to = output_->layout;
    uint8_t* out = context.data(*output_) + to.offset(n, y, 0);
    if (axis_.is_last) {
      for (const Tensor* input : inputs_) {
        copy_from(context, *input, n, y, *output_, out);
        out += input->width * to.pixel_bytes;
      }
      return;
    }
    const int64_t outer = y / (size_ * axis_.inner), inner = y % axis_.inner;
    const int64_t place = y / axis_.inner % size_;
    const auto i = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), place) - ends_.begin());
    const int64_t begin = i == 0 ? 0 : ends_[i - 1], size = ends_[i] - begin;
    copy_from(context, *inputs_[i], n, (outer * size + place - begin) * axis_.inner + inner, *output_, out);
  }

  static void copy_from(const RunContext& context, const Tensor& input, int64_t n, int64_t y, const Tensor& output,
                        uint8_t* out) {
    const uint8_t* in = context.data(input) + input.layout.offset(n, y, 0);
    copy_pixels(context.kernels->rows, input.layout, in, output.layout, out, input.width);
  }

  const Tensor* output_ = nullptr;
  RowAxis axis_;
  int64_t size_ = 0;           // along the axis
  std::vector<int64_t> ends_;  // behind each input
};

}  // namespace

std::unique_ptr<Operation> make_concat_rows(const OperationReader& reader) {
  return std::make_unique<ConcatRows>(reader);
}

}  // namespace bitorch
