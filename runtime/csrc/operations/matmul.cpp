#include "operations/matmul.h"

#include "core/graph/row_operation.h"
#include "operations/matrix_rows.h"

namespace bitorch {

RowAxes met_axes(const OperationReader& reader, const MatrixOperand& left, const MatrixOperand& right) {
  const std::string both = "\"" + left.tensor->name + "\" is " + left.tensor->describe() + " and \"" +
                           right.tensor->name + "\" is " + right.tensor->describe();
  if (left.columns() != right.rows()) {
    reader.fail("inputs", both + ": matrices of " + std::to_string(left.columns()) + " columns and " +
                              std::to_string(right.rows()) + " rows, which must be as many");
  }
  RowAxes axes = leading_axes(*left.tensor);
  if (!meet(&axes, leading_axes(*right.tensor), false)) {
    reader.fail("inputs", both + ": the axes in front of the matrices must be equal, or 1");
  }
  return axes;
}

MatmulSpec read_matmul(const OperationReader& reader) {
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 2) reader.fail("inputs", "must be two tensors");
  MatmulSpec spec;
  spec.left.tensor = reader.input_named("inputs", names[0], {Values::kFloat32});
  spec.right.tensor = reader.input_named("inputs", names[1], {Values::kFloat32});
  const std::vector<int64_t> transposed = reader.integers("transposed", 2, 0, 1, 0);
  spec.left.transposed = transposed[0] != 0;
  spec.right.transposed = transposed[1] != 0;
  if (reader.has("scale")) spec.scale = reader.number("scale");
  RowAxes axes = met_axes(reader, spec.left, spec.right);
  spec.of_left = ItemsOf(axes, leading_axes(*spec.left.tensor));
  spec.of_right = ItemsOf(axes, leading_axes(*spec.right.tensor));
  spec.macs = checked_mul(checked_mul(items(axes), spec.left.rows(), "a matmul"),
                          checked_mul(spec.left.columns(), spec.right.columns(), "a matmul"), "a matmul");
  axes.push_back(spec.left.rows());
  spec.output = reader.output("output", Values::kFloat32, 0, axes, spec.right.columns());
  return spec;
}

namespace {

constexpr int64_t kMostRows = 64;  // of the result at a time

// A row of work is a block of a matrix of the result. Blocks of one matrix follow one another, so that a part packs
// the right matrix once for all of them.
class Matmul : public RowOperation {
 public:
  Matmul(const MatmulSpec& spec, const RowBlocks& blocks)
      : RowOperation("a matmul", checked_mul(spec.output->height, blocks.count, "a matmul"),
                     {spec.left.tensor, spec.right.tensor}, {spec.output}),
        spec_(spec),
        blocks_(blocks),
        depth_(spec.left.columns()) {}

  void plan(const KernelTable& kernels, Preparation&) override {
    const int64_t columns = round_up(spec_.right.columns(), kernels.matrices->lanes);
    part_bytes_ = kHead + room(checked_mul(depth_, columns, what()), 4);
  }
  std::string kernel(const KernelTable& kernels) const override { return std::string("matrices ") + kernels.name; }
  int64_t macs() const override { return spec_.macs; }

 private:
  static constexpr int64_t kHead = 64;  // which matrix is packed

  double row_cost() const override {
    return static_cast<double>(blocks_.size(0)) * static_cast<double>(depth_ * spec_.right.columns()) * 0.02;
  }

  void start_part(uint8_t* scratch) const override { *reinterpret_cast<const float**>(scratch) = nullptr; }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const MatrixKernels& kernels = *context.kernels->matrices;
    const int64_t item = y / blocks_.count, first = blocks_.begin(y % blocks_.count);
    const FloatMatrix left(context, *spec_.left.tensor, n, spec_.of_left(item));
    const FloatMatrix right(context, *spec_.right.tensor, n, spec_.of_right(item));
    float* panels = reinterpret_cast<float*>(scratch + kHead);
    const float** packed = reinterpret_cast<const float**>(scratch);
    const bool left_turned = spec_.left.transposed, right_turned = spec_.right.transposed;
    if (*packed != right.data) {
      const MatrixPanels packing = {right.data,
                                    right_turned ? 1 : right.pixel_step,
                                    right_turned ? right.pixel_step : 1,
                                    depth_,
                                    spec_.right.columns(),
                                    panels};
      kernels.pack(&packing);
      *packed = right.data;
    }
    const int64_t row_step = left_turned ? 1 : left.pixel_step;
    const MatrixProduct product = {left.data + first * row_step,
                                   row_step,
                                   left_turned ? left.pixel_step : 1,
                                   panels,
                                   depth_,
                                   spec_.right.columns(),
                                   context.floats(*spec_.output, n, item, first),
                                   spec_.output->layout.pixel_bytes / 4,
                                   blocks_.size(y % blocks_.count),
                                   depth_,
                                   spec_.right.columns(),
                                   spec_.scale,
                                   nullptr};
    kernels.multiply(&product);
  }

  MatmulSpec spec_;
  RowBlocks blocks_;
  int64_t depth_;
};

}  // namespace

std::unique_ptr<Operation> make_matmul(const MatmulSpec& spec, Preparation&) {
  return std::make_unique<Matmul>(spec, RowBlocks(spec.output->width, kMostRows));
}

}  // namespace bitorch
