#include "operations/row_axis.h"

#include <algorithm>

namespace bitorch {

RowAxis::RowAxis(const OperationReader& reader, const char* key, const Tensor& input) {
  const auto back = static_cast<size_t>(-reader.integer(key, -static_cast<int64_t>(kMaxAxes) + 1, -1));
  axes_ = as_axes(input.axes, std::max(back, input.axes.size()));
  index_ = axes_.size() - back;
  is_last = back == 1;
  size = axes_[index_];
  for (size_t i = index_ + 1; i + 1 < axes_.size(); ++i) inner *= axes_[i];
}

RowAxes RowAxis::with_size(int64_t other) const {
  RowAxes axes = axes_;
  axes[index_] = other;
  return axes;
}

}  // namespace bitorch
