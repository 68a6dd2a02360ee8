// Reading one operation of the description: typed keys, named arrays, and errors that name all of them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/aligned.h"
#include "core/base/array.h"
#include "core/base/checked.h"
#include "core/base/preparation.h"
#include "core/format/json.h"
#include "core/graph/graph.h"

namespace bitorch {

constexpr int64_t kMaxExtent = int64_t{1} << 20;  // of row axes and all but the last together, of kernels, strides, ...
constexpr int64_t kMaxChannels = int64_t{1} << 24;  // of channels and features

// An Error that says which operation it is about.
struct OperationError : Error {
  using Error::Error;
};

// The arrays of a program while it is loaded, and which of them were used.
class ArrayTable {
 public:
  ArrayTable(const std::map<std::string, ArrayView>& arrays, Budget& budget);

  const ArrayView* use(const std::string& name);  // null where there is none
  // The elements, on an address aligned for them: a copy, kept as long as this table, where the array's own is not. The
  // same address whenever the same array is asked for, and so below.
  const void* elements(const ArrayView& array);
  // Booleans as 0 or 1, whatever byte stood for true.
  const uint8_t* booleans(const ArrayView& array);
  void check_all_used() const;
  std::string names() const;

 private:
  // Made once for each array.
  template <class Fill>
  const uint8_t* copy_of(const ArrayView& array, int64_t bytes, const Fill& fill) {
    const auto found = copies_.find(&array);
    if (found != copies_.end()) return found->second.data();
    TemporaryArray<uint8_t> copy(budget_, bytes, "an aligned copy of an array");
    fill(copy.data());
    return copies_.emplace(&array, std::move(copy)).first->second.data();
  }

  const std::map<std::string, ArrayView>& arrays_;
  Budget& budget_;
  std::set<std::string> used_;
  std::map<const ArrayView*, TemporaryArray<uint8_t>> copies_;
};

class OperationReader {
 public:
  OperationReader(const Json& description, size_t index, ArrayTable& arrays, Graph& graph, Preparation& preparation);

  const std::string& op() const { return op_; }
  const std::string& where() const { return where_; }
  Preparation& preparation() const { return preparation_; }

  [[noreturn]] void fail(const char* key, const std::string& rule) const;  // with the key's value
  [[noreturn]] void fail(const std::string& rule) const;                   // about the operation as a whole

  // Error where the description has a key that is not among these.
  void allow(std::initializer_list<const char*> keys) const;
  bool has(const char* key) const { return description_.find(key) != nullptr; }

  const std::string& name(const char* key) const;
  std::vector<std::string> names(const char* key) const;  // at least one
  std::string choice(const char* key, std::initializer_list<const char*> choices) const;
  const Json& list(const char* key) const;
  int64_t integer(const char* key, int64_t low, int64_t high) const;
  std::vector<int64_t> integers(const char* key, size_t count, int64_t low, int64_t high) const;
  std::vector<int64_t> integers(const char* key, size_t count, int64_t low, int64_t high, int64_t missing) const;
  size_t count(const char* key) const { return list(key).items().size(); }
  int bits(const char* key) const;
  bool flag(const char* key) const;
  bool flag(const char* key, bool missing) const;
  float number(const char* key) const;  // finite as a float32

  // Arrays: dtype and shape are checked; null where an optional key is missing.
  const ArrayView& array(const char* key) const;
  const float* floats(const char* key, const std::vector<int64_t>& shape) const;
  const uint8_t* bytes(const char* key, const std::vector<int64_t>& shape) const;
  const int32_t* integers32(const char* key, const std::vector<int64_t>& shape) const;
  const uint8_t* booleans(const char* key, const std::vector<int64_t>& shape) const;

  // For an operation to keep: a copy of `count` values of an array, repeated until there are `period` of them.
  template <class T>
  Kept<T> keep(const T* values, int64_t count, int64_t period) const {
    const auto key = {Preparation::address(values), count, period};
    return preparation_.share<AlignedArray<T>>(key, [&] {
      AlignedArray<T> copy(preparation_.budget(), period, "copies of arrays");
      for (int64_t i = 0; i < period; i += count) std::copy_n(values, std::min(count, period - i), copy.data() + i);
      return copy;
    });
  }
  template <class T>
  Kept<T> keep(const T* values, int64_t count) const {
    return keep(values, count, count);
  }

  // Tensors: defined before, of one of these values.
  const Tensor* input(const char* key, std::initializer_list<Values> allowed) const;
  const Tensor* input_named(const char* key, const std::string& name, std::initializer_list<Values> allowed) const;
  Tensor* output(const char* key, Values values, int bits, const RowAxes& axes, int64_t channels) const;
  Tensor* output(const char* key, Values values, int bits, int64_t height, int64_t width, int64_t channels) const {
    return output(key, values, bits, RowAxes{height, width}, channels);
  }

 private:
  const Json& value(const char* key) const;
  void check_extents(const Tensor& tensor) const;
  const void* checked_array(const char* key, Dtype dtype, const std::vector<int64_t>& shape) const;

  const Json& description_;
  ArrayTable& arrays_;
  Graph& graph_;
  Preparation& preparation_;
  std::string op_, where_;
};

// The keys "bits", "thresholds" and "descending" of an operation that gives codes. The pointers live as long as the
// table.
struct CodeKeys {
  int bits = 0;
  const int32_t* int_thresholds = nullptr;
  const float* float_thresholds = nullptr;
  const uint8_t* descending = nullptr;
};
CodeKeys read_code_keys(const OperationReader& reader, int64_t channels, bool int_thresholds_allowed);

}  // namespace bitorch
