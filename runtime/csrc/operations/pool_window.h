// The window of a pool: which pixels each output takes.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/graph/operation_reader.h"

namespace bitorch {

// Along one axis.
struct PoolAxis {
  int64_t size = 1, kernel = 1, stride = 1, dilation = 1, before = 0, after = 0;

  int64_t extent() const { return dilation * (kernel - 1) + 1; }
  int64_t padded() const { return size + before + after; }
  int64_t outputs() const { return (padded() - extent()) / stride + 1; }
  // Where the window of output o begins; may be negative.
  int64_t start(int64_t o) const { return o * stride - before; }
  // The taps first .. last-1 of output o fall on real pixels.
  int64_t first_tap(int64_t o) const { return std::min(kernel, start(o) >= 0 ? 0 : ceil_div(-start(o), dilation)); }
  int64_t last_tap(int64_t o) const {
    const int64_t room = size - start(o);
    return room <= 0 ? first_tap(o) : std::max(first_tap(o), std::min(kernel, ceil_div(room, dilation)));
  }
};

// The numbers of a window along two axes, from the keys "kernel_size", "stride", "padding" and "dilation": of one axis,
// they say nothing about the other, which has one row.
struct WindowKeys {
  size_t axes;
  std::vector<int64_t> kernel, stride, padding, dilation;  // padding: top, left, bottom, right
};
enum class Dilation { kNone, kOptional, kNeeded };
WindowKeys read_window_keys(const OperationReader& reader, const Tensor& input, Dilation dilation);
// How many axes a list says: 1 or 2, and no fewer than the tensor has rows along.
size_t window_axes(const OperationReader& reader, const char* key, const Tensor& input);
// [top, left, bottom, right] of this key, which has two numbers for one axis.
std::vector<int64_t> read_borders(const OperationReader& reader, const char* key, size_t axes);

struct PoolWindow {
  PoolAxis y, x;
  size_t axes = 2;  // of the window: one of a signal, whose y is its one row

  RowAxes outputs() const { return axes == 1 ? RowAxes{x.outputs()} : RowAxes{y.outputs(), x.outputs()}; }

  // Reads "kernel_size", "stride", "padding" and, where it may be there, "dilation".
  PoolWindow() = default;
  PoolWindow(const OperationReader& reader, const Tensor& input, bool dilated);
};

}  // namespace bitorch
