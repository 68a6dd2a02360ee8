#include "operations/adaptive_avg_pool.h"

#include <cstring>

#include "core/graph/row_operation.h"
#include "operations/window_keys.h"

namespace bitorch {

AdaptiveAvgPoolSpec read_adaptive_avg_pool(const OperationReader& reader) {
  AdaptiveAvgPoolSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  const size_t axes = read_window_axes(reader, "output_size", *spec.input);
  const RowAxes size = reader.integers("output_size", axes, 1, kMaxExtent);
  spec.output = reader.output("output", Values::kFloat32, 0, size, spec.input->channels);
  return spec;
}

namespace {

// The windows along one axis: output o takes the pixels first(o) .. last(o) - 1.
struct AdaptiveAxis {
  int64_t size = 1, outputs = 1;

  int64_t first(int64_t o) const { return o * size / outputs; }
  int64_t last(int64_t o) const { return ceil_div((o + 1) * size, outputs); }
};

// Twice, as PyTorch does: the result may differ in its last bit from a division by the product.
void divide(float* values, int64_t n, float rows, float columns) {
  for (int64_t i = 0; i < n; ++i) values[i] = values[i] / rows / columns;
}

class AdaptiveAvgPool : public RowOperation {
 public:
  explicit AdaptiveAvgPool(const AdaptiveAvgPoolSpec& spec)
      : RowOperation("a pool", spec.output->height, {spec.input}, {spec.output}),
        spec_(spec),
        y_{spec.input->height, spec.output->height},
        x_{spec.input->width, spec.output->width} {}

 private:
  double row_cost() const override {
    const double rows = static_cast<double>(y_.size + y_.outputs) / static_cast<double>(y_.outputs);
    return rows * static_cast<double>((x_.size + x_.outputs) * spec_.input->channels) * 0.3;
  }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t oy) const override {
    const int64_t channels = spec_.input->channels;
    float* out = context.floats(*spec_.output, n, oy);
    std::memset(out, 0, static_cast<size_t>(x_.outputs * channels) * sizeof(float));
    for (int64_t ox = 0; ox < x_.outputs; ++ox, out += channels) {
      for (int64_t y = y_.first(oy); y < y_.last(oy); ++y) {
        for (int64_t x = x_.first(ox); x < x_.last(ox); ++x) {
          context.kernels->rows.add_floats(out, context.floats(*spec_.input, n, y, x), channels);
        }
      }
      divide(out, channels, static_cast<float>(y_.last(oy) - y_.first(oy)),
             static_cast<float>(x_.last(ox) - x_.first(ox)));
    }
  }

  AdaptiveAvgPoolSpec spec_;
  AdaptiveAxis y_, x_;
};

}  // namespace

std::unique_ptr<Operation> make_adaptive_avg_pool(const AdaptiveAvgPoolSpec& spec, Preparation&) {
  return std::make_unique<AdaptiveAvgPool>(spec);
}

}  // namespace bitorch
