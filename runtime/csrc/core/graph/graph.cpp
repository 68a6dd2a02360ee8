#include "core/graph/graph.h"

#include <algorithm>

namespace bitorch {

const char* values_name(Values values) {
  switch (values) {
    case Values::kFloat32:
      return "float32";
    case Values::kInt32:
      return "int32";
    case Values::kCodes:
      return "codes";
  }
  throw Error("a tensor of unknown values");
}

RowAxes without_leading_ones(const RowAxes& axes) {
  const auto first = std::find_if(axes.begin(), axes.end(), [](int64_t size) { return size != 1; });
  return RowAxes(first, axes.end());
}

RowAxes as_axes(const RowAxes& axes, size_t count) {
  RowAxes rows = without_leading_ones(axes);
  if (rows.size() > count) return {};
  rows.insert(rows.begin(), count - rows.size(), 1);
  return rows;
}

std::vector<int64_t> Tensor::shape() const {
  std::vector<int64_t> shape = axes;
  shape.push_back(channels);
  return shape;
}

std::string Tensor::describe() const {
  const std::string text = std::string(values_name(values)) + " " + shape_text(shape());
  return is_codes() ? text + " of " + std::to_string(bits) + (bits == 1 ? " bit" : " bits") : text;
}

std::string Operation::kernel(const KernelTable& kernels) const { return std::string("rows ") + kernels.name; }

}  // namespace bitorch
