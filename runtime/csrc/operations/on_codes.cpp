#include "operations/on_codes.h"

#include <algorithm>

#include "core/base/rows.h"

namespace bitorch {

namespace {

constexpr int64_t kSpanCodes = 4096;

}  // namespace

std::vector<int64_t> read_table_shape(const OperationReader& reader, const Tensor& input) {
  const int64_t entries = int64_t{1} << input.bits;
  if (reader.array("table").shape.size() == 2) return {input.channels, entries};
  return {entries};
}

OnCodes::OnCodes(const Tensor* input, const Tensor* output)
    : RowOperation("a tensor", input->height, {input}, {output}), input_(*input), output_(*output) {}

void OnCodes::plan(const KernelTable&, Preparation&) {
  step_ = std::clamp<int64_t>(kSpanCodes / input_.channels, 1, input_.width);
  codes_bytes_ = room(step_, input_.channels);
  part_bytes_ = 2 * codes_bytes_;  // the input's codes and the output's
}

void OnCodes::run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t y) const {
  for (int64_t x = 0; x < input_.width; x += step_) {
    const int64_t count = std::min(step_, input_.width - x);
    const uint8_t* in = context.pixel(input_, n, y, x);
    const uint8_t* codes = read_codes(context.kernels->rows, input_.layout, in, count, scratch);
    write(context, codes, count, context.pixel(output_, n, y, x), scratch + codes_bytes_);
  }
}

}  // namespace bitorch
