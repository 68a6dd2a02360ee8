#include "core/base/array.h"

#include "core/base/checked.h"

namespace bitorch {

int64_t dtype_bytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBool:
    case Dtype::kUint8:
    case Dtype::kInt8:
      return 1;
    case Dtype::kInt16:
      return 2;
    case Dtype::kInt32:
    case Dtype::kFloat32:
      return 4;
    case Dtype::kInt64:
    case Dtype::kFloat64:
      return 8;
  }
  throw Error("an array of unknown dtype");
}

const char* dtype_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBool:
      return "bool";
    case Dtype::kUint8:
      return "uint8";
    case Dtype::kInt8:
      return "int8";
    case Dtype::kInt16:
      return "int16";
    case Dtype::kInt32:
      return "int32";
    case Dtype::kInt64:
      return "int64";
    case Dtype::kFloat32:
      return "float32";
    case Dtype::kFloat64:
      return "float64";
  }
  throw Error("an array of unknown dtype");
}

int64_t ArrayView::elements() const {
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (extent < 0) throw Error("an array of shape " + shape_text(shape) + ": extents must not be negative");
    count = checked_mul(count, extent, "an array");
  }
  return count;
}

std::string ArrayView::describe() const { return std::string(dtype_name(dtype)) + " " + shape_text(shape); }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  constexpr size_t kShown = 8;  // a file may give any number of extents
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    if (i == kShown) return text + "... (" + std::to_string(shape.size()) + " in all)]";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace bitorch
