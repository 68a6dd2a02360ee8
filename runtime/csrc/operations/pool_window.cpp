#include "operations/pool_window.h"

namespace bitorch {

PoolWindow read_pool_window(const OperationReader& reader, const Tensor& input, bool dilated) {
  const auto kernel = reader.integers("kernel_size", 2, 1, kMaxExtent);
  const auto stride = reader.integers("stride", 2, 1, kMaxExtent);
  const auto padding = reader.integers("padding", 4, 0, kMaxExtent);
  const auto dilation = dilated ? reader.integers("dilation", 2, 1, kMaxExtent, 1) : std::vector<int64_t>(2, 1);
  PoolWindow window;
  window.y = {input.height, kernel[0], stride[0], dilation[0], padding[0], padding[2]};
  window.x = {input.width, kernel[1], stride[1], dilation[1], padding[1], padding[3]};
  const PoolAxis &y = window.y, &x = window.x;
  if (y.extent() > y.padded() || x.extent() > x.padded()) {
    reader.fail("kernel_size", "with its dilation it spans " + shape_text({y.extent(), x.extent()}) +
                                   " pixels, more than the padded input's " + shape_text({y.padded(), x.padded()}));
  }
  return window;
}

}  // namespace bitorch
