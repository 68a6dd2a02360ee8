#include "operations/avg_pool.h"

#include <cstring>

#include "core/base/rows.h"
#include "core/graph/row_operation.h"
#include "operations/mean.h"

namespace bitorch {

namespace {

void check_padding(const OperationReader& reader, const PoolAxis& axis, int64_t beyond, bool counts) {
  if (axis.before >= axis.kernel || axis.after >= axis.kernel) {
    const std::string where = counts ? "together with \"beyond\"" : "where \"count_include_pad\" is false";
    reader.fail(beyond > 0 ? "beyond" : "padding",
                "must be smaller than the kernel " + where + ": a window of padding alone has no average");
  }
}

}  // namespace

AvgPoolSpec read_avg_pool(const OperationReader& reader) {
  AvgPoolSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  spec.window = read_pool_window(reader, *spec.input, false);
  PoolAxis* const axes[kWindowAxes] = {&spec.window.z, &spec.window.y, &spec.window.x};
  if (reader.has("beyond")) spec.beyond = read_per_axis(reader, "beyond", spec.window.axes, 0, 0);
  if (reader.has("divisor")) spec.divisor = reader.integer("divisor", 1, kMaxChannels);
  spec.count_padding = reader.flag("count_include_pad");
  spec.scale = read_code_scale(reader, *spec.input);
  int64_t pixels = 1;
  for (size_t i = 0; i < kWindowAxes; ++i) {
    pixels = checked_mul(pixels, axes[i]->kernel, "a pool");
    axes[i]->after += spec.beyond[i];
    if (!spec.count_padding || spec.beyond[i] > 0) check_padding(reader, *axes[i], spec.beyond[i], spec.count_padding);
  }
  check_sum_of_codes(reader, *spec.input, pixels);
  spec.output = reader.output("output", Values::kFloat32, 0, spec.window.outputs(), spec.input->channels);
  return spec;
}

namespace {

void add_sums(int32_t* out, const int32_t* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += in[i];
}

class AvgPool : public RowOperation {
 public:
  explicit AvgPool(const AvgPoolSpec& spec)
      : RowOperation("a pool", spec.output->height, {spec.input}, {spec.output}),
        spec_(spec),
        window_(spec_.window),
        input_(*spec.input) {}

  bool writes_part(const Tensor&) const override { return true; }

  // Scratch for codes: the sums of a row of windows' columns, one output pixel's sums, one row of codes.
  void plan(const KernelTable&, Preparation&) override {
    if (!input_.is_codes()) return;
    const int64_t channels = input_.channels;
    sums_bytes_ = room(checked_mul(window_.x.padded(), channels, what()), 4);
    pixel_bytes_ = room(channels, 4);
    const int64_t codes = room(input_.width, channels);
    part_bytes_ = checked_add(checked_add(sums_bytes_, pixel_bytes_, what()), codes, what());
  }

 private:
  bool reads_by_rows() const override { return !window_.has_depth(); }
  RowSpan rows_read(const Tensor&, RowSpan rows) const override { return window_.y.rows_read(rows); }

  double row_cost() const override {
    return row_values(input_) * static_cast<double>(window_.z.kernel * window_.y.kernel + 1) * 0.3;
  }

  void run_row(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const override {
    if (input_.is_codes()) {
      run_codes(context, scratch, n, oy);
    } else {
      run_floats(context, n, oy);
    }
  }

  // What the mean of output o of an axis divides by.
  int64_t counted(const PoolAxis& axis, int64_t beyond, int64_t o) const {
    if (!spec_.count_padding) return axis.last_tap(o) - axis.first_tap(o);
    return std::min(axis.kernel, axis.size + axis.after - beyond - axis.start(o));
  }

  // Of row r of the outputs, of all slices.
  float count(int64_t r, int64_t ox) const {
    if (spec_.divisor != 0) return static_cast<float>(spec_.divisor);
    const int64_t oz = r / window_.y.outputs(), oy = r % window_.y.outputs();
    return static_cast<float>(counted(window_.z, spec_.beyond[0], oz) * counted(window_.y, spec_.beyond[1], oy) *
                              counted(window_.x, spec_.beyond[2], ox));
  }

  void run_codes(const RunContext& context, uint8_t* scratch, int64_t n, int64_t oy) const {
    const RowFunctions& rows = context.kernels->rows;
    const int64_t channels = input_.channels;
    int32_t* sums = reinterpret_cast<int32_t*>(scratch);
    int32_t* pixel = reinterpret_cast<int32_t*>(scratch + sums_bytes_);
    uint8_t* codes = scratch + sums_bytes_ + pixel_bytes_;
    std::memset(sums, 0, static_cast<size_t>(sums_bytes_));
    window_.each_row(oy, [&](int64_t y) {
      const uint8_t* row = read_codes(rows, input_.layout, context.pixel(input_, n, y), input_.width, codes);
      rows.add_bytes(sums + window_.x.before * channels, row, input_.width * channels);
    });
    for (int64_t ox = 0; ox < spec_.output->width; ++ox) {
      const int32_t* taps = sums + ox * window_.x.stride * channels;
      std::memcpy(pixel, taps, static_cast<size_t>(channels) * sizeof(int32_t));
      for (int64_t tap = 1; tap < window_.x.kernel; ++tap) add_sums(pixel, taps + tap * channels, channels);
      mean_of_codes(context.floats(*spec_.output, n, oy, ox), pixel, channels, spec_.scale, count(oy, ox));
    }
  }

  void run_floats(const RunContext& context, int64_t n, int64_t oy) const {
    const RowFunctions& rows = context.kernels->rows;
    const int64_t channels = input_.channels, width = spec_.output->width;
    for (int64_t ox = 0; ox < width; ++ox) {
      float* out = context.floats(*spec_.output, n, oy, ox);
      std::memset(out, 0, static_cast<size_t>(channels) * sizeof(float));
      const int64_t first = window_.x.first_tap(ox), last = window_.x.last_tap(ox);
      window_.each_row(oy, [&](int64_t y) {
        for (int64_t tap = first; tap < last; ++tap) {
          rows.add_floats(out, context.floats(input_, n, y, window_.x.start(ox) + tap), channels);
        }
      });
      mean_of_floats(out, channels, count(oy, ox));
    }
  }

  AvgPoolSpec spec_;
  const PoolWindow& window_;
  const Tensor& input_;
  int64_t sums_bytes_ = 0, pixel_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Operation> make_avg_pool(const AvgPoolSpec& spec, Preparation&) {
  return std::make_unique<AvgPool>(spec);
}

}  // namespace bitorch
