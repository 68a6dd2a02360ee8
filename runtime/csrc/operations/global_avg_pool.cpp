#include "operations/global_avg_pool.h"

#include <cstring>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"
#include "operations/mean.h"

namespace bitorch {

GlobalAvgPoolSpec read_global_avg_pool(const OperationReader& reader) {
  GlobalAvgPoolSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  spec.scale = read_code_scale(reader, *spec.input);
  check_sum_of_codes(reader, *spec.input, spec.input->pixels());
  spec.output = reader.output("output", Values::kFloat32, 0, {1, 1}, spec.input->channels);
  return spec;
}

namespace {

class GlobalAvgPool : public RowOperation, private TakesRows {
 public:
  explicit GlobalAvgPool(const GlobalAvgPoolSpec& spec)
      : RowOperation("a pool", 1, {spec.input}, {spec.output}), spec_(spec), input_(*spec.input) {}

  const TakesRows* takes_rows() const override { return input_.is_codes() ? nullptr : this; }

  // Scratch for codes: the sums, one row of codes.
  void plan(const KernelTable&, Preparation&) override {
    if (!input_.is_codes()) return;
    sums_bytes_ = room(input_.channels, 4);
    part_bytes_ = checked_add(sums_bytes_, room(input_.width, input_.channels), what());
  }

 private:
  double row_cost() const override { return row_values(input_) * static_cast<double>(input_.height) * 0.15; }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t) const override {
    if (input_.is_codes()) {
      run_codes(context, scratch, n);
    } else {
      take_rows(context, n, {0, input_.height});
    }
  }

  void run_codes(const RunContext& context, uint8_t* scratch, int64_t n) const {
    const RowFunctions& rows = context.kernels->rows;
    const int64_t channels = input_.channels;
    int32_t* sums = reinterpret_cast<int32_t*>(scratch);
    std::memset(sums, 0, static_cast<size_t>(sums_bytes_));
    for (int64_t y = 0; y < input_.height; ++y) {
      const uint8_t* row = context.pixel(input_, n, y);
      const uint8_t* codes = read_codes(rows, input_.layout, row, input_.width, scratch + sums_bytes_);
      for (int64_t x = 0; x < input_.width; ++x) rows.add_bytes(sums, codes + x * channels, channels);
    }
    mean_of_codes(context.floats(*spec_.output, n, 0), sums, channels, spec_.scale,
                  static_cast<float>(input_.pixels()));
  }

  // Of floats: one pixel after the other is added to the result, which is divided at the end.
  void take_rows(const RunContext& context, int64_t n, RowSpan rows) const override {
    const int64_t channels = input_.channels;
    float* out = context.floats(*spec_.output, n, 0);
    if (rows.first == 0) std::memset(out, 0, static_cast<size_t>(channels) * sizeof(float));
    for (int64_t y = rows.first; y < rows.last; ++y) {
      const float* row = context.floats(input_, n, y);
      for (int64_t x = 0; x < input_.width; ++x) context.kernels->rows.add_floats(out, row + x * channels, channels);
    }
    if (rows.last == input_.height) mean_of_floats(out, channels, static_cast<float>(input_.pixels()));
  }

  GlobalAvgPoolSpec spec_;
  const Tensor& input_;
  int64_t sums_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_global_avg_pool(const GlobalAvgPoolSpec& spec, Preparation&) {
  return std::make_unique<GlobalAvgPool>(spec);
}

}  // namespace bitorch
