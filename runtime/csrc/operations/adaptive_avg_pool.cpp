// adaptive_avg_pool: means over windows that cover the image evenly, of sizes that may differ by one.
#include <cstring>

#include "core/base/rows.h"
#include "operations/operations.h"
#include "operations/pool_window.h"

namespace bitorch {

namespace {

// The windows along one axis: output o takes the pixels first(o) .. last(o) - 1.
struct AdaptiveAxis {
  int64_t size = 1, outputs = 1;

  int64_t first(int64_t o) const { return o * size / outputs; }
  int64_t last(int64_t o) const { return ceil_div((o + 1) * size, outputs); }
};

class AdaptiveAvgPool : public Operation {
 public:
  explicit AdaptiveAvgPool(const OperationReader& reader) : Operation(reader) {
    reader.allow({"input", "output", "output_size"});
    input_ = reader.input("input", {Values::kFloat32});
    const size_t axes = window_axes(reader, "output_size", *input_);
    const std::vector<int64_t> size = reader.integers("output_size", axes, 1, kMaxExtent);
    y_ = {input_->height, axes == 1 ? 1 : size[0]};
    x_ = {input_->width, size.back()};
    output_ = reader.output("output", Values::kFloat32, 0, size, input_->channels);
    inputs_ = {input_};
    outputs_ = {output_};
  }

  void run(const RunContext& context) const override {
    zero_halo(output_->layout, context.data(*output_), context.batch);
    const double values = static_cast<double>(context.batch * (input_->height + y_.outputs)) *
                          static_cast<double>((input_->width + x_.outputs) * input_->channels);
    for_rows(context.batch * y_.outputs, values * 0.3, context.threads, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) run_row(context, row / y_.outputs, row % y_.outputs);
    });
  }

 private:
  void run_row(const RunContext& context, int64_t n, int64_t oy) const {
    const int64_t channels = input_->channels;
    float* out = reinterpret_cast<float*>(context.data(*output_) + output_->layout.offset(n, oy, 0));
    std::memset(out, 0, static_cast<size_t>(x_.outputs * channels) * sizeof(float));
    for (int64_t ox = 0; ox < x_.outputs; ++ox, out += channels) {
      for (int64_t y = y_.first(oy); y < y_.last(oy); ++y) {
        for (int64_t x = x_.first(ox); x < x_.last(ox); ++x) {
          const uint8_t* pixel = context.data(*input_) + input_->layout.offset(n, y, x);
          context.kernels->rows.add_floats(out, reinterpret_cast<const float*>(pixel), channels);
        }
      }
      divide(out, channels, static_cast<float>(y_.last(oy) - y_.first(oy)),
             static_cast<float>(x_.last(ox) - x_.first(ox)));
    }
  }

  // Twice, as PyTorch does: the result may differ in its last bit from a division by the product.
  static void divide(float* values, int64_t n, float rows, float columns) {
    for (int64_t i = 0; i < n; ++i) values[i] = values[i] / rows / columns;
  }

  AdaptiveAxis y_, x_;
  const Tensor* input_ = nullptr;
  const Tensor* output_ = nullptr;
};

}  // namespace

std::unique_ptr<Operation> make_adaptive_avg_pool(const OperationReader& reader) {
  return std::make_unique<AdaptiveAvgPool>(reader);
}

}  // namespace bitorch
