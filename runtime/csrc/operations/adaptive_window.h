// The windows of an adaptive pool, which cover an image evenly.
#pragma once
#include <algorithm>
#include <cstdint>

#include "operations/window_keys.h"

namespace bitorch {

// Along one axis: output o takes the pixels first(o) .. last(o) - 1.
struct AdaptiveAxis {
  int64_t size = 1, outputs = 1;

  int64_t first(int64_t o) const { return o * size / outputs; }
  int64_t last(int64_t o) const { return ceil_div((o + 1) * size, outputs); }
  int64_t count(int64_t o) const { return last(o) - first(o); }
  // Pixels that a window takes, about.
  double pixels_each() const { return static_cast<double>(size + outputs) / static_cast<double>(outputs); }
};

struct AdaptiveWindow {
  AdaptiveAxis z, y, x;
  RowAxes outputs;

  // Calls body(row) for each row of the input that row r of the outputs is made of, of all slices, in their order.
  template <class F>
  void each_row(int64_t r, const F& body) const {
    const int64_t oz = r / y.outputs, oy = r % y.outputs;
    for (int64_t i = z.first(oz); i < z.last(oz); ++i) {
      for (int64_t k = y.first(oy); k < y.last(oy); ++k) body(i * y.size + k);
    }
  }
  // Nanoseconds of a row of outputs, about.
  double row_cost(int64_t channels, double value) const {
    return z.pixels_each() * y.pixels_each() * static_cast<double>((x.size + x.outputs) * channels) * value;
  }
};

// "output_size".
inline AdaptiveWindow read_adaptive_window(const OperationReader& reader, const Tensor& input) {
  AdaptiveWindow window;
  const size_t axes = read_window_axes(reader, "output_size", input);
  const auto outputs = read_per_axis(reader, "output_size", axes, 1, 1);
  const RowAxes sizes = as_axes(input.axes, kWindowAxes);
  AdaptiveAxis* const each[kWindowAxes] = {&window.z, &window.y, &window.x};
  for (size_t i = 0; i < kWindowAxes; ++i) *each[i] = {sizes[i], outputs[i]};
  window.outputs.assign(outputs.end() - static_cast<std::ptrdiff_t>(axes), outputs.end());
  return window;
}

}  // namespace bitorch
