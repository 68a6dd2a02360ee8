#include "operations/pool_window.h"

namespace bitorch {

size_t window_axes(const OperationReader& reader, const char* key, const Tensor& input) {
  const size_t axes = reader.count(key);
  if (axes != 1 && axes != 2) reader.fail(key, "must be a list of 1 or 2 integers, one for each axis");
  if (as_axes(input.axes, axes).empty()) {
    reader.fail(key, "must have a number for each axis of rows: the tensor is " + input.describe());
  }
  return axes;
}

std::vector<int64_t> read_borders(const OperationReader& reader, const char* key, size_t axes) {
  const auto borders = reader.integers(key, 2 * axes, 0, kMaxExtent);
  return axes == 2 ? borders : std::vector<int64_t>{0, borders[0], 0, borders[1]};
}

WindowKeys read_window_keys(const OperationReader& reader, const Tensor& input, Dilation dilation) {
  WindowKeys keys;
  keys.axes = window_axes(reader, "kernel_size", input);
  const auto read = [&](const char* key, bool optional) {
    auto numbers =
        optional ? reader.integers(key, keys.axes, 1, kMaxExtent, 1) : reader.integers(key, keys.axes, 1, kMaxExtent);
    if (keys.axes == 1) numbers.insert(numbers.begin(), 1);
    return numbers;
  };
  keys.kernel = read("kernel_size", false);
  keys.stride = read("stride", false);
  keys.padding = read_borders(reader, "padding", keys.axes);
  keys.dilation = {1, 1};
  if (dilation != Dilation::kNone) keys.dilation = read("dilation", dilation == Dilation::kOptional);
  return keys;
}

PoolWindow::PoolWindow(const OperationReader& reader, const Tensor& input, bool dilated) {
  const WindowKeys keys = read_window_keys(reader, input, dilated ? Dilation::kOptional : Dilation::kNone);
  axes = keys.axes;
  y = {input.height, keys.kernel[0], keys.stride[0], keys.dilation[0], keys.padding[0], keys.padding[2]};
  x = {input.width, keys.kernel[1], keys.stride[1], keys.dilation[1], keys.padding[1], keys.padding[3]};
  if (y.extent() > y.padded() || x.extent() > x.padded()) {
    reader.fail("kernel_size", "with its dilation it spans " + shape_text({y.extent(), x.extent()}) +
                                   " pixels, more than the padded input's " + shape_text({y.padded(), x.padded()}));
  }
}

}  // namespace bitorch
