#include "operations/window_keys.h"

namespace bitorch {

size_t read_window_axes(const OperationReader& reader, const char* key, const Tensor& input) {
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
  keys.axes = read_window_axes(reader, "kernel_size", input);
  const auto with_both_axes = [&](std::vector<int64_t> numbers) {
    if (keys.axes == 1) numbers.insert(numbers.begin(), 1);
    return numbers;
  };
  keys.kernel = with_both_axes(reader.integers("kernel_size", keys.axes, 1, kMaxExtent));
  keys.stride = with_both_axes(reader.integers("stride", keys.axes, 1, kMaxExtent));
  keys.padding = read_borders(reader, "padding", keys.axes);
  keys.dilation = {1, 1};
  if (dilation == Dilation::kNeeded || (dilation == Dilation::kOptional && reader.has("dilation"))) {
    keys.dilation = with_both_axes(reader.integers("dilation", keys.axes, 1, kMaxExtent));
  }
  return keys;
}

}  // namespace bitorch
