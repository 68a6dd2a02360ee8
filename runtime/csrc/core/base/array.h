// Arrays as they come from outside: a view of memory that somebody else owns.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace bitorch {

enum class Dtype { kBool, kUint8, kInt8, kInt16, kInt32, kInt64, kFloat32, kFloat64 };

int64_t dtype_bytes(Dtype dtype);
const char* dtype_name(Dtype dtype);  // as NumPy writes it: "uint8", "float32", ...

constexpr size_t kMaxAxes = 8;  // of one image of a tensor, channels included

// C-contiguous. The memory must outlive the call that the view is passed to, not longer.
struct ArrayView {
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;
  const void* data = nullptr;

  int64_t elements() const;      // Error when an extent is negative or the product does not fit
  std::string describe() const;  // e.g. "float32 [16, 3]"
};

std::string shape_text(const std::vector<int64_t>& shape);  // e.g. "[16, 3]"

}  // namespace bitorch
