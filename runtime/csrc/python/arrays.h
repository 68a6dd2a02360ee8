// NumPy arrays as views, and results as NumPy arrays.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/array.h"

namespace bitorch {

using PythonArray = nanobind::ndarray<nanobind::ro, nanobind::device::cpu>;

// An array and what keeps its memory.
struct InputArray {
  PythonArray owner;
  ArrayView view;
};

// `what` names the array in messages. Error: no array, a dtype that the core does not know, not C-contiguous, not
// aligned.
InputArray input_array(nanobind::handle object, const std::string& what);
std::vector<ArrayView> views_of(const std::vector<InputArray>& arrays);

// Memory for a result: an array of the caller's, or a new one, uninitialised.
class OutputArray {
 public:
  // given: None for a new array of this shape, or one of as many numbers, C-contiguous and writable. Error: another.
  OutputArray(nanobind::handle given, const char* what, Dtype dtype, const std::vector<int64_t>& shape);
  void* data() const { return data_; }
  nanobind::object numpy() const { return array_; }

 private:
  void* data_;
  nanobind::object array_;
};

// Error: not `count` numbers of this dtype.
void check_numbers(const ArrayView& view, const char* what, Dtype dtype, int64_t count);

// Uninitialised memory on a 64-byte boundary that becomes a NumPy array.
class ResultArray {
 public:
  ResultArray(Dtype dtype, std::vector<int64_t> shape);
  void* data() const { return memory_; }
  nanobind::object numpy() const;

 private:
  Dtype dtype_;
  std::vector<int64_t> shape_;
  void* memory_;
  nanobind::capsule owner_;
};

}  // namespace bitorch
