#include "operations/matmul_codes.h"

#include <limits>

#include "core/base/rows.h"
#include "core/base/transpose.h"
#include "core/graph/row_operation.h"
#include "operations/matrix_rows.h"

namespace bitorch {

namespace {

// What the codes of operand i of both stand for.
CodeMeaning read_meaning(const OperationReader& reader, size_t i, const Tensor& tensor) {
  const int64_t zero_point = reader.integers("zero_points", 2, 0, 255, 0)[i];
  const bool is_sign = reader.integers("signs", 2, 0, 1, 0)[i] != 0;
  const std::string named = "the tensor \"" + tensor.name + "\" has codes of " + std::to_string(tensor.bits) + " bits";
  if (zero_point >= int64_t{1} << tensor.bits)
    reader.fail("zero_points", named + ", of which a zero point must be one");
  if (is_sign && tensor.bits != 1) reader.fail("signs", named + ", but signs have 1");
  if (is_sign && zero_point != 0) reader.fail("signs", "signs have no zero point");
  if (is_sign) return {2, -1};
  return {1, static_cast<int32_t>(-zero_point)};
}

// The largest number that codes of these bits stand for.
int64_t largest(const CodeMeaning& meaning, int bits) {
  const int64_t top = meaning.factor * ((int64_t{1} << bits) - 1) + meaning.offset;
  return std::max<int64_t>(top, -meaning.offset);
}

void read_outputs(const OperationReader& reader, const RowAxes& axes, int64_t columns, MatmulCodesSpec* spec) {
  if (reader.has("scale")) spec->scale = reader.number("scale");
  if (reader.has("float32") && !reader.has("scale")) reader.fail("float32", "needs the key \"scale\" beside it");
  if (!reader.has("float32") && reader.has("scale")) reader.fail("scale", "needs the key \"float32\" beside it");
  if (reader.has("int32")) spec->sums = reader.output("int32", Values::kInt32, 0, axes, columns);
  if (reader.has("float32")) spec->floats = reader.output("float32", Values::kFloat32, 0, axes, columns);
  if (spec->sums == nullptr && spec->floats == nullptr) {
    reader.fail("it needs an output: one or both of the keys \"int32\" and \"float32\"");
  }
}

}  // namespace

MatmulCodesSpec read_matmul_codes(const OperationReader& reader) {
  MatmulCodesSpec spec;
  spec.operands = read_operands(reader, Values::kCodes);
  const Tensor &left = *spec.operands.left.tensor, &right = *spec.operands.right.tensor;
  spec.of_left_codes = read_meaning(reader, 0, left);
  spec.of_right_codes = read_meaning(reader, 1, right);
  const int64_t depth = spec.operands.left.columns();
  const int64_t most = largest(spec.of_left_codes, left.bits) * largest(spec.of_right_codes, right.bits);
  if (checked_mul(depth, most, "a matmul_codes") > std::numeric_limits<int32_t>::max()) {
    reader.fail("inputs", "sums of " + std::to_string(depth) + " products of up to " + std::to_string(most) +
                              " do not fit in 32 bits");
  }
  RowAxes axes = spec.operands.axes;
  axes.push_back(spec.operands.left.rows());
  read_outputs(reader, axes, spec.operands.right.columns(), &spec);
  return spec;
}

namespace {

constexpr int64_t kMostRows = 64;  // of the result at a time

std::vector<const Tensor*> given_by(const MatmulCodesSpec& spec) {
  std::vector<const Tensor*> tensors;
  if (spec.sums != nullptr) tensors.push_back(spec.sums);
  if (spec.floats != nullptr) tensors.push_back(spec.floats);
  return tensors;
}

// A row of work is a block of a matrix of the result, as of a matmul. The sum of (f q + o)(g r + p) over codes q and r
// is
//
//   f g sum of q r  +  f p sum of q + K o p  +  o g sum of r
//                      one for each row         one for each column
class MatmulCodes : public RowOperation {
 public:
  MatmulCodes(const MatmulCodesSpec& spec, const RowBlocks& blocks)
      : RowOperation("a matmul_codes", checked_mul(items(spec.operands.axes), blocks.count, "a matmul_codes"),
                     {spec.operands.left.tensor, spec.operands.right.tensor}, given_by(spec)),
        spec_(spec),
        blocks_(blocks),
        depth_(spec.operands.left.columns()),
        columns_(spec.operands.right.columns()) {}

  bool reads_planes(const Tensor&, const KernelTable&) const override { return false; }

  void plan(const KernelTable& kernels, Preparation&) override {
    const int64_t columns = round_up(columns_, kernels.matrices->code_lanes);
    of_columns_at_ = kHead + room(checked_mul(round_up(depth_, 4), columns, what()), 1);
    of_rows_at_ = of_columns_at_ + room(columns_, 4);
    left_at_ = of_rows_at_ + room(blocks_.size(0), 4);
    const int64_t turned =
        spec_.operands.left.transposed ? room(checked_mul(blocks_.size(0), depth_, what()), 1) + 64 : 0;
    sums_at_ = left_at_ + turned;
    const int64_t sums = spec_.sums == nullptr ? room(checked_mul(blocks_.size(0), columns_, what()), 4) : 0;
    part_bytes_ = sums_at_ + sums;
  }
  std::string kernel(const KernelTable& kernels) const override { return std::string("matrices ") + kernels.name; }
  int64_t macs() const override { return spec_.operands.macs; }

 private:
  static constexpr int64_t kHead = 64;  // which matrix is packed

  double row_cost() const override {
    return static_cast<double>(blocks_.size(0)) * static_cast<double>(columns_) *
           (static_cast<double>(depth_) * 0.008 + 0.2);
  }

  void start_part(uint8_t* scratch) const override { *reinterpret_cast<const uint8_t**>(scratch) = nullptr; }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const override {
    const int64_t item = y / blocks_.count, block = y % blocks_.count;
    const int64_t first = blocks_.begin(block), rows = blocks_.size(block);
    pack(context, scratch, n, item);
    int64_t row_step = 0;
    const uint8_t* left = left_rows(context, scratch, n, item, first, rows, &row_step);
    const MatrixKernels& kernels = *context.kernels->matrices;
    const CodeMeaning &l = spec_.of_left_codes, &r = spec_.of_right_codes;
    int32_t* of_rows = reinterpret_cast<int32_t*>(scratch + of_rows_at_);
    const uint32_t every = static_cast<uint32_t>(depth_) * static_cast<uint32_t>(l.offset * r.offset);
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t sum = r.offset == 0 ? 0 : kernels.sum_codes(left + row * row_step, depth_);
      of_rows[row] =
          static_cast<int32_t>(static_cast<uint32_t>(l.factor * r.offset) * static_cast<uint32_t>(sum) + every);
    }
    int64_t out_step = columns_;
    int32_t* out = reinterpret_cast<int32_t*>(scratch + sums_at_);
    if (spec_.sums != nullptr) {
      out = reinterpret_cast<int32_t*>(context.pixel(*spec_.sums, n, item, first));
      out_step = spec_.sums->layout.pixel_bytes / 4;
    }
    const CodeProduct product = {left,
                                 row_step,
                                 scratch + kHead,
                                 depth_,
                                 columns_,
                                 rows,
                                 spec_.operands.left.tensor->bits,
                                 spec_.operands.right.tensor->bits,
                                 l.factor * r.factor,
                                 of_rows,
                                 reinterpret_cast<const int32_t*>(scratch + of_columns_at_),
                                 out,
                                 out_step};
    kernels.multiply_codes(&product);
    if (spec_.floats == nullptr) return;
    for (int64_t row = 0; row < rows; ++row) {
      float* floats = context.floats(*spec_.floats, n, item, first + row);
      kernels.scale_sums(floats, out + row * out_step, spec_.scale, columns_);
    }
  }

  // Brings the right matrix into panels, and what its columns add to every sum.
  void pack(const RunContext& context, uint8_t* scratch, int64_t n, int64_t item) const {
    const Tensor& tensor = *spec_.operands.right.tensor;
    const uint8_t* data = context.pixel(tensor, n, spec_.operands.of_right(item));
    const uint8_t** packed = reinterpret_cast<const uint8_t**>(scratch);
    if (*packed == data) return;
    *packed = data;
    int32_t* sums = reinterpret_cast<int32_t*>(scratch + of_columns_at_);
    const int64_t step = tensor.layout.pixel_bytes;
    const bool turned = spec_.operands.right.transposed;
    const CodePanels packing = {data,     turned ? 1 : step, turned ? step : 1, depth_,
                                columns_, tensor.bits,       scratch + kHead,   sums};
    context.kernels->matrices->pack_codes(&packing);
    const uint32_t factor = static_cast<uint32_t>(spec_.of_left_codes.offset * spec_.of_right_codes.factor);
    for (int64_t c = 0; c < columns_; ++c) sums[c] = static_cast<int32_t>(factor * static_cast<uint32_t>(sums[c]));
  }

  // Rows of the left matrix, columns side by side.
  const uint8_t* left_rows(const RunContext& context, uint8_t* scratch, int64_t n, int64_t item, int64_t first,
                           int64_t rows, int64_t* row_step) const {
    const Tensor& tensor = *spec_.operands.left.tensor;
    const int64_t step = tensor.layout.pixel_bytes;
    const uint8_t* data = context.pixel(tensor, n, spec_.operands.of_left(item));
    if (!spec_.operands.left.transposed) {
      *row_step = step;
      return data + first * step;
    }
    *row_step = depth_;
    transpose(data + first, step, scratch + left_at_, depth_, depth_, rows, 1);
    return scratch + left_at_;
  }

  MatmulCodesSpec spec_;
  RowBlocks blocks_;
  int64_t depth_, columns_;
  int64_t of_columns_at_ = 0, of_rows_at_ = 0, left_at_ = 0, sums_at_ = 0;  // in scratch, behind the panels
};

}  // namespace

std::unique_ptr<Operation> make_matmul_codes(const MatmulCodesSpec& spec, Preparation&) {
  return std::make_unique<MatmulCodes>(spec, RowBlocks(spec.operands.left.rows(), kMostRows));
}

}  // namespace bitorch
