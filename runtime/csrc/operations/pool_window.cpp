#include "operations/pool_window.h"

#include "operations/window_keys.h"

namespace bitorch {

PoolWindow read_pool_window(const OperationReader& reader, const Tensor& input, bool dilated) {
  const WindowKeys keys = read_window_keys(reader, input, dilated ? Dilation::kOptional : Dilation::kNone);
  PoolWindow window;
  window.axes = keys.axes;
  PoolAxis* const axes[kWindowAxes] = {&window.z, &window.y, &window.x};
  std::vector<int64_t> extents, padded;
  bool fits = true;
  for (size_t i = 0; i < kWindowAxes; ++i) {
    const ConvAxis& axis = keys.axis[i];
    *axes[i] = {axis.size, axis.kernel, axis.stride, axis.dilation, axis.before, axis.after};
    fits = fits && axes[i]->extent() <= axes[i]->padded();
    if (i < kWindowAxes - std::max<size_t>(keys.axes, 2)) continue;
    extents.push_back(axes[i]->extent());
    padded.push_back(axes[i]->padded());
  }
  if (!fits) {
    reader.fail("kernel_size", "with its dilation it spans " + shape_text(extents) +
                                   " pixels, more than the padded input's " + shape_text(padded));
  }
  return window;
}

}  // namespace bitorch
