#include "operations/adaptive_max_pool.h"

#include <cstring>

#include "core/graph/row_operation.h"

namespace bitorch {

AdaptiveMaxPoolSpec read_adaptive_max_pool(const OperationReader& reader) {
  AdaptiveMaxPoolSpec spec;
  spec.input = reader.input("input", {Values::kFloat32, Values::kCodes});
  const Tensor& input = *spec.input;
  spec.window = read_adaptive_window(reader, input);
  spec.output = reader.output("output", input.values, input.bits, spec.window.outputs, input.channels);
  return spec;
}

namespace {

class AdaptiveMaxPool : public RowOperation {
 public:
  explicit AdaptiveMaxPool(const AdaptiveMaxPoolSpec& spec)
      : RowOperation("a pool", spec.output->height, {spec.input}, {spec.output}), spec_(spec), window_(spec_.window) {}

  bool reads_planes(const Tensor&, const KernelTable&) const override { return false; }
  bool writes_planes(const Tensor&) const override { return false; }
  bool writes_part(const Tensor&) const override { return true; }

 private:
  double row_cost() const override { return window_.row_cost(spec_.input->channels, 0.2); }

  // Each window begins with its first pixel.
  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t r) const override {
    const RowFunctions& rows = context.kernels->rows;
    const Tensor& input = *spec_.input;
    const auto bytes = static_cast<size_t>(input.layout.channel_bytes());
    for (int64_t ox = 0; ox < window_.x.outputs; ++ox) {
      uint8_t* out = context.pixel(*spec_.output, n, r, ox);
      bool is_first = true;
      window_.each_row(r, [&](int64_t y) {
        for (int64_t x = window_.x.first(ox); x < window_.x.last(ox); ++x) {
          const uint8_t* in = context.pixel(input, n, y, x);
          if (is_first) {
            std::memcpy(out, in, bytes);
          } else if (input.is_codes()) {
            rows.max_bytes(out, in, input.channels);
          } else {
            rows.max_floats(reinterpret_cast<float*>(out), reinterpret_cast<const float*>(in), input.channels);
          }
          is_first = false;
        }
      });
    }
  }

  AdaptiveMaxPoolSpec spec_;
  const AdaptiveWindow& window_;
};

}  // namespace

std::unique_ptr<Operation> make_adaptive_max_pool(const AdaptiveMaxPoolSpec& spec, Preparation&) {
  return std::make_unique<AdaptiveMaxPool>(spec);
}

}  // namespace bitorch
