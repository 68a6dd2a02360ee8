#include "operations/pool_window.h"

#include "operations/window_keys.h"

namespace bitorch {

PoolWindow read_pool_window(const OperationReader& reader, const Tensor& input, bool dilated) {
  const WindowKeys keys = read_window_keys(reader, input, dilated ? Dilation::kOptional : Dilation::kNone);
  PoolWindow window;
  window.axes = keys.axes;
  window.y = {input.height, keys.kernel[0], keys.stride[0], keys.dilation[0], keys.padding[0], keys.padding[2]};
  window.x = {input.width, keys.kernel[1], keys.stride[1], keys.dilation[1], keys.padding[1], keys.padding[3]};
  const PoolAxis &y = window.y, &x = window.x;
  if (y.extent() > y.padded() || x.extent() > x.padded()) {
    reader.fail("kernel_size", "with its dilation it spans " + shape_text({y.extent(), x.extent()}) +
                                   " pixels, more than the padded input's " + shape_text({y.padded(), x.padded()}));
  }
  return window;
}

}  // namespace bitorch
