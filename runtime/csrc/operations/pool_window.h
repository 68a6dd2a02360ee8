// The window of a pool: which pixels each output takes.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/graph/by_rows.h"
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
  // From the first to the last that outputs first .. last - 1 take, real pixels alone.
  RowSpan rows_read(RowSpan outputs) const {
    const int64_t end = std::clamp<int64_t>(start(outputs.last - 1) + extent(), 0, size);
    return {std::clamp<int64_t>(start(outputs.first), 0, end), end};
  }
};

struct PoolWindow {
  PoolAxis y, x;
  size_t axes = 2;  // 1 of a signal, whose y is its one row
  PoolAxis z;       // of a volume, slices; of others one

  RowAxes outputs() const {
    const RowAxes all = {z.outputs(), y.outputs(), x.outputs()};
    return RowAxes(all.end() - static_cast<std::ptrdiff_t>(axes), all.end());
  }
  // Calls body(row) for each real row of the input, of all slices, that row r of the outputs is made of, in their
  // order.
  template <class F>
  void each_row(int64_t r, const F& body) const {
    const int64_t oz = r / y.outputs(), oy = r % y.outputs();
    for (int64_t i = z.first_tap(oz); i < z.last_tap(oz); ++i) {
      const int64_t slice = (z.start(oz) + i * z.dilation) * y.size + y.start(oy);
      for (int64_t k = y.first_tap(oy); k < y.last_tap(oy); ++k) body(slice + k * y.dilation);
    }
  }
  // Whether slices are more than images one behind the other.
  bool has_depth() const { return z.kernel > 1 || z.stride > 1 || z.padded() > 1; }
};

// The keys "kernel_size", "stride", "padding" and, where it may be there, "dilation".
PoolWindow read_pool_window(const OperationReader& reader, const Tensor& input, bool dilated);

}  // namespace bitorch
