// Reads the safetensors format from bytes in memory: eight bytes of header length (little-endian), a JSON header, the
// data.
//
//   {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//
// Strictly: the tensors cover the data without holes or overlaps, sizes agree, no name and no key is given twice, and
// nothing unknown stands in the header. Bytes from anywhere may be given: whatever is wrong is an Error that says what
// and where.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/array.h"

namespace bitorch {

// A header may not be longer; a value in it takes two bytes and becomes about a hundred in memory.
constexpr int64_t kMaxSafetensorsHeader = 16 << 20;

const char* safetensors_name(Dtype dtype);  // as the format calls it: "F32", ...

struct Safetensors {
  // Views of the bytes that were read, which must outlive them. Their data lie wherever the file has them: a view need
  // not be aligned to its dtype.
  std::map<std::string, ArrayView> tensors;
  std::vector<std::string> order;  // the names of the tensors in the order of their bytes
  std::map<std::string, std::string> metadata;

  // dtypes BOOL, U8, I8, I16, I32, I64, F32 and F64, those of ArrayView. Error as above; std::bad_alloc.
  // `check_metadata` sees the metadata before anything is said about the tensors, which another format may have of
  // other kinds.
  using CheckMetadata = std::function<void(const std::map<std::string, std::string>& metadata)>;
  static Safetensors read(const void* data, size_t size, const CheckMetadata& check_metadata = nullptr);
};

}  // namespace bitorch
