#include "operations/window_keys.h"

#include <algorithm>

namespace bitorch {

namespace {

using PerAxis = std::array<int64_t, kWindowAxes>;

// Numbers of `axes` axes, as three have them.
PerAxis as_three(const int64_t* numbers, size_t axes, int64_t missing) {
  PerAxis all;
  all.fill(missing);
  std::copy_n(numbers, axes, all.end() - axes);
  return all;
}

WindowKeys read_window(const OperationReader& reader, const Tensor& input) {
  WindowKeys keys;
  keys.axes = read_window_axes(reader, "kernel_size", input);
  const RowAxes sizes = as_axes(input.axes, kWindowAxes);
  const PerAxis kernel = read_per_axis(reader, "kernel_size", keys.axes, 1, 1);
  const PerAxis stride = read_per_axis(reader, "stride", keys.axes, 1, 1);
  for (size_t i = 0; i < kWindowAxes; ++i) {
    keys.axis[i].size = sizes[i];
    keys.axis[i].kernel = kernel[i];
    keys.axis[i].stride = stride[i];
  }
  return keys;
}

void read_dilation(const OperationReader& reader, WindowKeys* keys) {
  const PerAxis dilation = read_per_axis(reader, "dilation", keys->axes, 1, 1);
  for (size_t i = 0; i < kWindowAxes; ++i) keys->axis[i].dilation = dilation[i];
}

}  // namespace

size_t read_window_axes(const OperationReader& reader, const char* key, const Tensor& input) {
  const size_t axes = reader.count(key);
  if (axes < 1 || axes > kWindowAxes) {
    reader.fail(key, "must be a list of 1 to 3 integers, one for each axis");
  }
  if (as_axes(input.axes, axes).empty()) {
    reader.fail(key, "must have a number for each axis of rows: the tensor is " + input.describe());
  }
  return axes;
}

PerAxis read_per_axis(const OperationReader& reader, const char* key, size_t axes, int64_t low, int64_t missing) {
  return as_three(reader.integers(key, axes, low, kMaxExtent).data(), axes, missing);
}

WindowKeys read_window_keys(const OperationReader& reader, const Tensor& input, Dilation dilation) {
  WindowKeys keys = read_window(reader, input);
  const std::vector<int64_t> borders = reader.integers("padding", 2 * keys.axes, 0, kMaxExtent);
  const PerAxis before = as_three(borders.data(), keys.axes, 0);
  const PerAxis after = as_three(borders.data() + keys.axes, keys.axes, 0);
  for (size_t i = 0; i < kWindowAxes; ++i) {
    keys.axis[i].before = before[i];
    keys.axis[i].after = after[i];
  }
  if (dilation == Dilation::kNeeded || (dilation == Dilation::kOptional && reader.has("dilation"))) {
    read_dilation(reader, &keys);
  }
  return keys;
}

WindowKeys read_transposed_keys(const OperationReader& reader, const Tensor& input) {
  WindowKeys keys = read_window(reader, input);
  const PerAxis padding = read_per_axis(reader, "padding", keys.axes, 0, 0);
  const PerAxis more = read_per_axis(reader, "output_padding", keys.axes, 0, 0);
  read_dilation(reader, &keys);
  for (size_t i = 0; i < kWindowAxes; ++i) {
    ConvAxis& axis = keys.axis[i];
    axis.transposed = true;
    axis.before = padding[i];
    axis.after = padding[i] - more[i];
    if (more[i] >= std::max(axis.stride, axis.dilation) && more[i] > 0) {
      reader.fail("output_padding", "must be smaller than the stride or the dilation of its axis");
    }
  }
  return keys;
}

}  // namespace bitorch
