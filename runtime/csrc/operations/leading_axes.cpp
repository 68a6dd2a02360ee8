#include "operations/leading_axes.h"

#include <algorithm>

namespace bitorch {

RowAxes leading_axes(const Tensor& tensor) { return RowAxes(tensor.axes.begin(), tensor.axes.end() - 1); }

bool meet(RowAxes* result, const RowAxes& other, bool groups) {
  if (other.size() > result->size()) result->insert(result->begin(), other.size() - result->size(), 1);
  const size_t more = result->size() - other.size();
  for (size_t i = 0; i < other.size(); ++i) {
    int64_t& size = (*result)[more + i];
    const bool is_group = groups && i + 1 == other.size() && size % other[i] == 0;
    if (size == other[i] || other[i] == 1 || is_group) continue;
    if (size != 1) return false;
    size = other[i];
  }
  return true;
}

ItemsOf::ItemsOf(const RowAxes& result, const RowAxes& operand) : count_(result.size()) {
  const size_t more = result.size() - operand.size();
  int64_t step = 1;
  for (size_t i = count_; i-- > 0;) {
    const int64_t size = i < more ? 1 : operand[i - more];
    axes_[i] = {result[i], size == 1 ? 1 : result[i] / size, size == 1 ? 0 : step};
    step *= size;
  }
}

int64_t ItemsOf::operator()(int64_t item) const {
  int64_t found = 0;
  for (size_t i = count_; i-- > 0;) {
    const Axis& axis = axes_[i];
    found += item % axis.size / axis.shared * axis.step;
    item /= axis.size;
  }
  return found;
}

int64_t items(const RowAxes& axes) {
  int64_t count = 1;
  for (const int64_t size : axes) count *= size;
  return count;
}

}  // namespace bitorch
