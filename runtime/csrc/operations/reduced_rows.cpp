#include "operations/reduced_rows.h"

namespace bitorch {

ReducedRows::ReducedRows(const RowAxes& axes, const std::vector<bool>& reduced) : width_reduced_(reduced.back()) {
  int64_t stride = 1;
  for (size_t i = axes.size() - 1; i-- > 0; stride *= axes[i]) {
    if (axes[i] == 1) continue;
    (reduced[i] ? reduced_ : kept_).push_back({axes[i], stride});
    if (reduced[i]) count_ *= axes[i];
  }
}

int64_t ReducedRows::offset(const std::vector<Axis>& axes, int64_t index) {
  int64_t offset = 0;
  for (const Axis& axis : axes) {
    offset += index % axis.size * axis.stride;
    index /= axis.size;
  }
  return offset;
}

}  // namespace bitorch
