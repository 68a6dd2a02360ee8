#include "operations/resize_nearest.h"

#include <cstring>

#include "core/graph/row_operation.h"
#include "operations/copy_pixels.h"

namespace bitorch {

namespace {

int64_t nearest(const ResizeAxis& axis, int64_t o) { return o * axis.size / axis.outputs; }

// Pixels of kBytes bytes, or where it is 0, of `bytes`.
template <int kBytes>
void copy_columns(const ResizeAxis& axis, const uint8_t* in, int64_t in_step, uint8_t* out, int64_t out_step,
                  int64_t bytes) {
  const auto count = static_cast<size_t>(kBytes != 0 ? kBytes : bytes);
  const bool repeats = axis.outputs % axis.size == 0;
  const int64_t times = repeats ? axis.outputs / axis.size : 1;
  if (!repeats) {
    for (int64_t o = 0; o < axis.outputs; ++o) std::memcpy(out + o * out_step, in + nearest(axis, o) * in_step, count);
    return;
  }
  for (int64_t x = 0; x < axis.size; ++x, in += in_step) {
    for (int64_t k = 0; k < times; ++k, out += out_step) std::memcpy(out, in, count);
  }
}

class ResizeNearest : public RowOperation {
 public:
  explicit ResizeNearest(const ResizeSpec& spec)
      : RowOperation("a resize", spec.output->height, {spec.input}, {spec.output}), spec_(spec) {}

  // Then bytes of pixels are copied as they are.
  bool reads_planes(const Tensor&, const KernelTable&) const override {
    return spec_.output->layout.kind == Kind::kPlanes;
  }
  bool prefers_planes(const Tensor& tensor, const KernelTable& kernels) const override {
    return reads_planes(tensor, kernels);
  }
  bool writes_part(const Tensor&) const override { return true; }

 private:
  double row_cost() const override { return row_values(*spec_.output) * 0.15; }

  void run_row(const RunContext& context, uint8_t*, int64_t n, int64_t r) const override {
    const auto& [z, y, x] = spec_.axis;
    const int64_t row = nearest(z, r / y.outputs) * y.size + nearest(y, r % y.outputs);
    const Layout &from = spec_.input->layout, &to = spec_.output->layout;
    const uint8_t* in = context.pixel(*spec_.input, n, row);
    uint8_t* out = context.pixel(*spec_.output, n, r);
    if (from.kind != to.kind) {
      for (int64_t o = 0; o < x.outputs; ++o) {
        const uint8_t* pixel = in + nearest(x, o) * from.pixel_bytes;
        copy_pixels(context.kernels->rows, from, pixel, to, out + o * to.pixel_bytes, 1);
      }
      return;
    }
    const int64_t planes = from.kind == Kind::kPlanes ? from.bits : 1;
    for (int64_t i = 0; i < planes; ++i) copy(in + i * from.plane_bytes, out + i * to.plane_bytes);
  }

  void copy(const uint8_t* in, uint8_t* out) const {
    const Layout &from = spec_.input->layout, &to = spec_.output->layout;
    const auto call = [&](auto function) {
      function(spec_.axis[2], in, from.pixel_bytes, out, to.pixel_bytes, from.channel_bytes());
    };
    switch (from.channel_bytes()) {
      case 1:
        return call(copy_columns<1>);
      case 2:
        return call(copy_columns<2>);
      case 4:
        return call(copy_columns<4>);
      case 8:
        return call(copy_columns<8>);
      case 16:
        return call(copy_columns<16>);
      case 32:
        return call(copy_columns<32>);
      case 64:
        return call(copy_columns<64>);
      default:
        return call(copy_columns<0>);
    }
  }

  ResizeSpec spec_;
};

}  // namespace

std::unique_ptr<Operation> make_resize_nearest(const ResizeSpec& spec) { return std::make_unique<ResizeNearest>(spec); }

}  // namespace bitorch
