#include "operations/pairs.h"

#include "core/graph/row_operation.h"
#include "operations/broadcast.h"

namespace bitorch {

namespace {

PairFunction function_of(const std::string& op) {
  if (op == "sub") return kPairSub;
  if (op == "div") return kPairDiv;
  if (op == "minimum") return kPairMinimum;
  if (op == "maximum") return kPairMaximum;
  return op == "where" ? kPairWhere : kPairMul;
}

}  // namespace

PairSpec read_pair(const OperationReader& reader) {
  const std::vector<std::string> names = reader.names("inputs");
  if (names.size() != 2) reader.fail("inputs", "must be two tensors");
  PairSpec spec;
  spec.function = function_of(reader.op());
  for (const std::string& name : names) {
    spec.inputs.push_back(reader.input_named("inputs", name, {Values::kFloat32}));
  }
  if (spec.function == kPairWhere) spec.inputs.push_back(reader.input("condition", {Values::kFloat32}));
  const BroadcastShape shape(reader, "inputs", spec.inputs);
  spec.output = reader.output("output", Values::kFloat32, 0, shape.axes, shape.channels);
  return spec;
}

namespace {

class Pair : public RowOperation {
 public:
  explicit Pair(const PairSpec& spec)
      : RowOperation("two tensors", spec.output->height, spec.inputs, {spec.output}),
        function_(spec.function),
        output_(*spec.output) {
    for (const Tensor* input : spec.inputs) {
      rows_.emplace_back(*input, output_);
      if (same_ == nullptr && input->same_shape(output_)) same_ = input;
    }
  }

  bool reads_part(const Tensor&) const override { return true; }
  bool writes_part(const Tensor&) const override { return true; }
  const Tensor* overwrites(const Tensor&) const override { return same_; }

 private:
  bool reads_by_rows() const override { return true; }
  double row_cost() const override { return row_values(output_) * 0.1; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t y) const override {
    PairRow row;
    row.out = context.floats(output_, n, y);
    row.out_step = output_.layout.pixel_bytes / 4;
    row.a = rows_[0].pixels(context, n, y, 0);
    row.b = rows_[1].pixels(context, n, y, 0);
    row.c = rows_.size() > 2 ? rows_[2].pixels(context, n, y, 0) : PairInput{nullptr, 0, 0};
    row.pixels = output_.width;
    row.n = output_.channels;
    if (is_gated(row)) {
      return context.kernels->pixels.multiply(row.out, row.a.data, row.b.data, row.pixels, row.n);
    }
    context.kernels->pairs->functions[function_](&row);
  }

  // Every pixel times one: that one stays in registers.
  bool is_gated(const PairRow& row) const {
    return function_ == kPairMul && row.b.pixel_step == 0 && row.b.channel_step == 1 && row.a.channel_step == 1 &&
           row.a.pixel_step == row.n && row.out_step == row.n;
  }

  PairFunction function_;
  const Tensor& output_;
  const Tensor* same_ = nullptr;  // the first input of the output's shape
  std::vector<Broadcast> rows_;
};

}  // namespace

std::unique_ptr<Operation> make_pair_operation(const PairSpec& spec, Preparation&) {
  return std::make_unique<Pair>(spec);
}

}  // namespace bitorch
