// Reading one operation of the description: typed keys, named arrays, and errors that name all of them.
#pragma once
#include <cstddef>
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

constexpr int64_t kMaxExtent = int64_t{1} << 20;  // of an axis, of all but the last together, of kernels, strides, ...
constexpr int64_t kMaxChannels = int64_t{1} << 24;  // of channels and features

// The keys that a description may have, a constant array of names.
class Keys {
 public:
  template <size_t kCount>
  constexpr Keys(const char* const (&keys)[kCount]) : begin_(keys), end_(keys + kCount) {}
  constexpr const char* const* begin() const { return begin_; }
  constexpr const char* const* end() const { return end_; }

 private:
  const char* const* begin_;
  const char* const* end_;
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

  // Error where the description has a key that is not among these, "op" aside.
  void allow(const Keys& keys) const;
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

  // Tensors: defined before, of one of these values.
  const Tensor* input(const char* key, std::initializer_list<Values> allowed) const;
  const Tensor* input_named(const char* key, const std::string& name, std::initializer_list<Values> allowed) const;
  // The tensor that this operation defines.
  const Tensor* output(const char* key, Values values, int bits, const RowAxes& axes, int64_t channels) const;
  const Tensor* output_like(const char* key, const Tensor& tensor) const;  // of the same values and shape

  // The arrays of the program: return their index among the inputs or outputs. `key` names the tensor of an output,
  // which can be given once.
  size_t add_input(Port port) const;
  size_t add_output(const char* key, Port port) const;

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

}  // namespace bitorch
