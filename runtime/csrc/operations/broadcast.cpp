#include "operations/broadcast.h"

#include <algorithm>

namespace bitorch {

namespace {

// Whether `size` goes together with another one, which becomes that of both.
bool join(int64_t size, int64_t* both) {
  if (size != 1 && *both != 1 && size != *both) return false;
  *both = std::max(size, *both);
  return true;
}

}  // namespace

BroadcastShape::BroadcastShape(const OperationReader& reader, const char* key,
                               const std::vector<const Tensor*>& tensors) {
  size_t count = 1;
  for (const Tensor* tensor : tensors) count = std::max(count, tensor->axes.size());
  axes.assign(count, 1);
  for (const Tensor* tensor : tensors) {
    const RowAxes rows = as_axes(tensor->axes, count);
    bool fits = join(tensor->channels, &channels);
    for (size_t i = 0; i < count; ++i) fits = join(rows[i], &axes[i]) && fits;
    if (fits) continue;
    reader.fail(key, "the tensor \"" + tensor->name + "\" is " + tensor->describe() + ", but \"" + tensors[0]->name +
                         "\" is " + tensors[0]->describe() +
                         "; along each axis, the last ones of the rows below each other, sizes must be equal or 1");
  }
}

bool BroadcastShape::is_of(const Tensor& tensor) const {
  return channels == tensor.channels && without_leading_ones(axes) == without_leading_ones(tensor.axes);
}

Broadcast::Broadcast(const Tensor& tensor, const Tensor& result)
    : tensor_(tensor),
      repeats_pixels_(tensor.width == 1 && result.width > 1),
      repeats_channels_(tensor.channels == 1),
      has_all_rows_(tensor.height == result.height) {
  const RowAxes axes = as_axes(tensor.axes, result.axes.size());
  int64_t step = 1;
  for (size_t i = result.axes.size() - 1; i-- > 0;) {
    axes_.push_back({result.axes[i], axes[i] == 1 ? 0 : step});
    step *= axes[i];
  }
}

int64_t Broadcast::row(int64_t y) const {
  if (has_all_rows_) return y;
  int64_t row = 0;
  for (const Axis& axis : axes_) {
    row += y % axis.size * axis.step;
    y /= axis.size;
  }
  return row;
}

PairInput Broadcast::pixels(const RunContext& context, int64_t n, int64_t y, int64_t x) const {
  const int64_t step = repeats_pixels_ ? 0 : tensor_.layout.pixel_bytes / 4;
  return {context.floats(tensor_, n, row(y), repeats_pixels_ ? 0 : x), step, repeats_channels_ ? 0 : 1};
}

}  // namespace bitorch
