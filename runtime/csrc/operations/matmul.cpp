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

Operands read_operands(const OperationReader& reader, Values values) {
  const char* what = "a product of matrices";
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 2) reader.fail("inputs", "must be two tensors");
  Operands operands;
  operands.left.tensor = reader.input_named("inputs", names[0], {values});
  operands.right.tensor = reader.input_named("inputs", names[1], {values});
  const std::vector<int64_t> transposed = reader.integers("transposed", 2, 0, 1, 0);
  operands.left.transposed = transposed[0] != 0;
  operands.right.transposed = transposed[1] != 0;
  operands.axes = met_axes(reader, operands.left, operands.right);
  operands.of_left = ItemsOf(operands.axes, leading_axes(*operands.left.tensor));
  operands.of_right = ItemsOf(operands.axes, leading_axes(*operands.right.tensor));
  operands.macs = checked_mul(checked_mul(items(operands.axes), operands.left.rows(), what),
                              checked_mul(operands.left.columns(), operands.right.columns(), what), what);
  return operands;
}

MatmulSpec read_matmul(const OperationReader& reader) {
  MatmulSpec spec;
  spec.operands = read_operands(reader, Values::kFloat32);
  if (reader.has("scale")) spec.scale = reader.number("scale");
  RowAxes axes = spec.operands.axes;
  axes.push_back(spec.operands.left.rows());
  spec.output = reader.output("output", Values::kFloat32, 0, axes, spec.operands.right.columns());
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
                     {spec.operands.left.tensor, spec.operands.right.tensor}, {spec.output}),
        spec_(spec),
        blocks_(blocks),
        depth_(spec.operands.left.columns()) {}

  void plan(const KernelTable& kernels, Preparation&) override {
    const int64_t columns = round_up(spec_.operands.right.columns(), kernels.matrices->lanes);
    part_bytes_ = kHead + room(checked_mul(depth_, columns, what()), 4);
  }
  std::string kernel(const KernelTable& kernels) const override { return std::string("matrices ") + kernels.name; }
  int64_t macs() const override { return spec_.operands.macs; }

 private:
  static constexpr int64_t kHead = 64;  // which matrix is packed

  double row_cost() const override {
    return static_cast<double>(blocks_.size(0)) * static_cast<double>(depth_ * spec_.operands.right.columns()) * 0.02;
  }

  void start_part(uint8_t* scratch) const override { *reinterpret_cast<const float**>(scratch) = nullptr; }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const MatrixKernels& kernels = *context.kernels->matrices;
    const int64_t item = y / blocks_.count, first = blocks_.begin(y % blocks_.count);
    const FloatMatrix left(context, *spec_.operands.left.tensor, n, spec_.operands.of_left(item));
    const FloatMatrix right(context, *spec_.operands.right.tensor, n, spec_.operands.of_right(item));
    float* panels = reinterpret_cast<float*>(scratch + kHead);
    const float** packed = reinterpret_cast<const float**>(scratch);
    const bool left_turned = spec_.operands.left.transposed, right_turned = spec_.operands.right.transposed;
    if (*packed != right.data) {
      const MatrixPanels packing = {
          right.data, right_turned ? 1 : right.pixel_step, right_turned ? right.pixel_step : 1,
          depth_,     spec_.operands.right.columns(),      panels};
      kernels.pack(&packing);
      *packed = right.data;
    }
    const int64_t row_step = left_turned ? 1 : left.pixel_step;
    const MatrixProduct product = {left.data + first * row_step,
                                   row_step,
                                   left_turned ? left.pixel_step : 1,
                                   panels,
                                   depth_,
                                   spec_.operands.right.columns(),
                                   context.floats(*spec_.output, n, item, first),
                                   spec_.output->layout.pixel_bytes / 4,
                                   blocks_.size(y % blocks_.count),
                                   depth_,
                                   spec_.operands.right.columns(),
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
