// take: places along an axis of rows: some of them, in another order, or some several times.
#include <algorithm>

#include "core/base/rows.h"
#include "operations/copy_pixels.h"
#include "operations/operations.h"
#include "operations/row_axis.h"

namespace bitorch {

namespace {

class Take : public Operation {
 public:
  explicit Take(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "axis", "indices"});
    input_ = reader.input("input", {Values::kFloat32, Values::kCodes});
    inputs_ = {input_};
    axis_ = RowAxis(reader, "axis", *input_);
    const ArrayView& array = reader.array("indices");
    if (array.shape.size() != 1 || array.shape[0] < 1) {
      reader.fail("indices", "the array is " + array.describe() + ", but must have one dimension, and not be empty");
    }
    const int64_t count = array.shape[0];
    const int32_t* indices = reader.integers32("indices", {count});
    reader.preparation().budget().work(count);
    for (int64_t k = 0; k < count; ++k) {
      if (indices[k] >= 0 && indices[k] < axis_.size) continue;
      reader.fail("indices", "the array has " + std::to_string(indices[k]) + ", but the places along this axis of \"" +
                                 input_->name + "\" are 0 to " + std::to_string(axis_.size - 1));
    }
    output_ = reader.output("output", input_->values, input_->bits, axis_.with_size(count), input_->channels);
    outputs_ = {output_};
    indices_ = reader.keep(indices, count);
  }

  bool prefers_planes(const Tensor&, const KernelTable&) const override {
    return output_->layout.kind == Kind::kPlanes;
  }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double bytes = static_cast<double>(context.batch * output_->height) *
                         static_cast<double>(output_->width * output_->layout.pixel_bytes);
    for_rows(context.batch * output_->height, bytes * 0.3, context.threads, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) run_row(context, row / output_->height, row % output_->height);
    });
  }

  int64_t weight_bytes() const override { return indices_->size() * 4; }

 private:
  void run_row(const RunContext& context, int64_t n, int64_t y) const {
    const RowFunctions& functions = context.kernels->rows;
    const Layout& from = input_->layout;
    const Layout& to = output_->layout;
    const uint8_t* image = context.data(*input_);
    uint8_t* out = context.data(*output_) + to.offset(n, y, 0);
    const int32_t* indices = indices_->data();
    if (!axis_.is_last) {
      const int64_t place = y / axis_.inner;
      const int64_t source = (place / indices_->size() * axis_.size + indices[place % indices_->size()]) * axis_.inner;
      return copy_pixels(functions, from, image + from.offset(n, source + y % axis_.inner, 0), to, out, to.width);
    }
    for (int64_t x = 0; x < to.width;) {  // runs of places that lie side by side
      int64_t end = x + 1;
      while (end < to.width && indices[end] == indices[end - 1] + 1) ++end;
      copy_pixels(functions, from, image + from.offset(n, y, indices[x]), to, out + x * to.pixel_bytes, end - x);
      x = end;
    }
  }

  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
  RowAxis axis_;
  Kept<int32_t> indices_;
};

}  // namespace

std::unique_ptr<Operation> make_take(const OperationReader& reader) { return std::make_unique<Take>(reader); }

}  // namespace bitorch
