#include "operations/adaptive_avg_pool.h"

#include <cstring>

#include "core/graph/row_operation.h"

namespace bitorch {

AdaptiveAvgPoolSpec read_adaptive_avg_pool(const OperationReader& reader) {
  AdaptiveAvgPoolSpec spec;
  spec.input = reader.input("input", {Values::kFloat32});
  spec.window = read_adaptive_window(reader, *spec.input);
  spec.output = reader.output("output", Values::kFloat32, 0, spec.window.outputs, spec.input->channels);
  return spec;
}

namespace {

class AdaptiveAvgPool : public RowOperation {
 public:
  explicit AdaptiveAvgPool(const AdaptiveAvgPoolSpec& spec)
      : RowOperation("a pool", spec.output->height, {spec.input}, {spec.output}), spec_(spec), window_(spec_.window) {}

 private:
  double row_cost() const override { return window_.row_cost(spec_.input->channels, 0.3); }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t r) const override {
    const int64_t channels = spec_.input->channels;
    const AdaptiveAxis& axis = window_.x;
    float* out = context.floats(*spec_.output, n, r);
    std::memset(out, 0, static_cast<size_t>(axis.outputs * channels) * sizeof(float));
    for (int64_t ox = 0; ox < axis.outputs; ++ox, out += channels) {
      window_.each_row(r, [&](int64_t y) {
        for (int64_t x = axis.first(ox); x < axis.last(ox); ++x) {
          context.kernels->rows.add_floats(out, context.floats(*spec_.input, n, y, x), channels);
        }
      });
      divide(out, r, ox);
    }
  }

  // One axis after the other, as PyTorch does: the result may differ in its last bit from a division by the product.
  void divide(float* values, int64_t r, int64_t ox) const {
    const auto slices = static_cast<float>(window_.z.count(r / window_.y.outputs));
    const auto rows = static_cast<float>(window_.y.count(r % window_.y.outputs));
    const auto columns = static_cast<float>(window_.x.count(ox));
    for (int64_t i = 0; i < spec_.input->channels; ++i) values[i] = values[i] / slices / rows / columns;
  }

  AdaptiveAvgPoolSpec spec_;
  const AdaptiveWindow& window_;
};

}  // namespace

std::unique_ptr<Operation> make_adaptive_avg_pool(const AdaptiveAvgPoolSpec& spec, Preparation&) {
  return std::make_unique<AdaptiveAvgPool>(spec);
}

}  // namespace bitorch
