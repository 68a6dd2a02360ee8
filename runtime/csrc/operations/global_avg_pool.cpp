#include "operations/global_avg_pool.h"

#include <algorithm>
#include <cstring>

#include "core/base/checked.h"
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

// Threads share the channels of floats, which makes of each one the same sum as one thread does.
class GlobalAvgPool : public Operation, private TakesRows {
 public:
  explicit GlobalAvgPool(const GlobalAvgPoolSpec& spec)
      : Operation({spec.input}, {spec.output}), spec_(spec), input_(*spec.input) {}

  const TakesRows* takes_rows() const override { return input_.is_codes() ? nullptr : this; }

  // Scratch for codes: the sums, one row of codes.
  void plan(const KernelTable&, Preparation&) override {
    if (!input_.is_codes()) return;
    const auto room = [](int64_t count, int64_t size) { return round_up(checked_mul(count, size, kWhat), 64); };
    sums_bytes_ = room(input_.channels, 4);
    part_bytes_ = checked_add(sums_bytes_, room(input_.width, input_.channels), kWhat);
  }

  int64_t scratch_bytes(int64_t, int threads) const override { return checked_mul(part_bytes_, threads, kWhat); }

  void run(const RunContext& context) const override {
    zero_halo(spec_.output->layout, context.data(*spec_.output), context.batch);
    const int64_t units = input_.is_codes() ? 1 : ceil_div(input_.channels, kLine), items = context.batch * units;
    const double nanoseconds = static_cast<double>(context.batch * input_.height) * row_values(input_) * 0.05;
    for_rows(items, nanoseconds, context.threads, [&](int part, int64_t first, int64_t last) {
      for (int64_t item = first, count = 0; item < last; item += count) {
        const int64_t n = item / units, unit = item % units;
        count = std::min(last - item, units - unit);
        if (input_.is_codes()) {
          run_codes(context, context.scratch + part * part_bytes_, n);
        } else {
          add_rows(context, n, {0, input_.height}, unit * kLine, std::min(input_.channels, (unit + count) * kLine));
        }
      }
    });
  }

 private:
  static constexpr const char* kWhat = "a pool";
  static constexpr int64_t kLine = 16;  // floats of a cache line

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

  void take_rows(const RunContext& context, int64_t n, RowSpan rows) const override {
    add_rows(context, n, rows, 0, input_.channels);
  }

  // Of floats, channels c0 .. c1 - 1: one pixel after the other is added to the result, which is divided at the end.
  void add_rows(const RunContext& context, int64_t n, RowSpan rows, int64_t c0, int64_t c1) const {
    float* out = context.floats(*spec_.output, n, 0) + c0;
    if (rows.first == 0) std::memset(out, 0, static_cast<size_t>(c1 - c0) * sizeof(float));
    for (int64_t y = rows.first; y < rows.last; ++y) {
      const float* row = context.floats(input_, n, y) + c0;
      context.kernels->pixels.add(out, row, input_.channels, input_.width, c1 - c0);
    }
    if (rows.last == input_.height) mean_of_floats(out, c1 - c0, static_cast<float>(input_.pixels()));
  }

  GlobalAvgPoolSpec spec_;
  const Tensor& input_;
  int64_t sums_bytes_ = 0, part_bytes_ = 0;  // scratch
};

}  // namespace

std::unique_ptr<Operation> make_global_avg_pool(const GlobalAvgPoolSpec& spec, Preparation&) {
  return std::make_unique<GlobalAvgPool>(spec);
}

}  // namespace bitorch
