#include "core/graph/row_operation.h"

#include <utility>

#include "core/base/rows.h"

namespace bitorch {

RowOperation::RowOperation(const char* what, int64_t rows, std::vector<const Tensor*> inputs,
                           std::vector<const Tensor*> outputs)
    : Operation(std::move(inputs), std::move(outputs)), what_(what), rows_(rows) {}

int64_t RowOperation::scratch_bytes(int64_t, int threads) const { return checked_mul(part_bytes_, threads, what_); }

void RowOperation::run(const RunContext& context) const {
  const int64_t rows = context.batch * rows_;
  const double nanoseconds = static_cast<double>(rows) * row_cost();
  const int parts = parts_for(rows, nanoseconds, context.threads);
  parallel_workers(parts, rows, nanoseconds, [&](int part, const auto& take) {
    uint8_t* scratch = context.scratch + part * part_bytes_;
    start_part(scratch);
    for (int64_t first, last; take(&first, &last);) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = row / rows_, y = row % rows_;
        for (const Tensor* output : outputs()) {
          const int64_t height = output->height;
          zero_halo(output->layout, context.data(*output), n, y * height / rows_, (y + 1) * height / rows_);
        }
        run_row(context, scratch, n, y);
      }
    }
  });
}

}  // namespace bitorch
