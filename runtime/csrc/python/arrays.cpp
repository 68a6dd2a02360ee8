#include "arrays.h"

#include <nanobind/stl/string.h>

#include <new>

#include "core/base/checked.h"

namespace nb = nanobind;

namespace bitorch {
namespace {

constexpr const char* kDtypes = "bool, uint8, int8, int16, int32, int64, float32 and float64";

Dtype dtype_of(nb::dlpack::dtype dtype, const std::string& what) {
  using Code = nb::dlpack::dtype_code;
  const auto is = [&](Code code, int bits) {
    return dtype.lanes == 1 && dtype.code == static_cast<uint8_t>(code) && dtype.bits == bits;
  };
  if (is(Code::Bool, 8)) return Dtype::kBool;
  if (is(Code::UInt, 8)) return Dtype::kUint8;
  if (is(Code::Int, 8)) return Dtype::kInt8;
  if (is(Code::Int, 16)) return Dtype::kInt16;
  if (is(Code::Int, 32)) return Dtype::kInt32;
  if (is(Code::Int, 64)) return Dtype::kInt64;
  if (is(Code::Float, 32)) return Dtype::kFloat32;
  if (is(Code::Float, 64)) return Dtype::kFloat64;
  throw Error(what + ": this dtype is not supported; the supported ones are " + kDtypes);
}

nb::dlpack::dtype to_dlpack(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUint8:
      return nb::dtype<uint8_t>();
    case Dtype::kInt8:
      return nb::dtype<int8_t>();
    case Dtype::kInt32:
      return nb::dtype<int32_t>();
    case Dtype::kFloat32:
      return nb::dtype<float>();
    case Dtype::kFloat64:
      return nb::dtype<double>();
    default:
      throw Error(std::string("results of dtype ") + dtype_name(dtype) + " do not exist");
  }
}

// Strides count only where there is more than one element to step to.
bool is_contiguous(const PythonArray& array) {
  if (array.size() == 0) return true;
  int64_t expected = 1;
  for (size_t i = array.ndim(); i-- > 0;) {
    if (array.shape(i) != 1 && array.stride(i) != expected) return false;
    expected *= static_cast<int64_t>(array.shape(i));
  }
  return true;
}

}  // namespace

InputArray input_array(nb::handle object, const std::string& what) {
  InputArray input;
  if (!nb::try_cast<PythonArray>(object, input.owner, false)) {
    const std::string type = nb::cast<std::string>(nb::str(object.type().attr("__name__")));
    throw Error(what + ": expected a NumPy array of " + kDtypes + " in native byte order, got " + type);
  }
  input.view.dtype = dtype_of(input.owner.dtype(), what);
  for (size_t i = 0; i < input.owner.ndim(); ++i)
    input.view.shape.push_back(static_cast<int64_t>(input.owner.shape(i)));
  input.view.data = input.owner.data();
  if (!is_contiguous(input.owner)) throw Error(what + ": not C-contiguous; use numpy.ascontiguousarray");
  if (reinterpret_cast<uintptr_t>(input.view.data) % static_cast<uintptr_t>(dtype_bytes(input.view.dtype)) != 0) {
    throw Error(what + ": not aligned to its dtype; copy it");
  }
  return input;
}

void check_numbers(const ArrayView& view, const char* what, Dtype dtype, int64_t count) {
  if (view.dtype == dtype && view.elements() == count) return;
  throw Error(std::string(what) + ": " + view.describe() + " was given; it must be " + std::to_string(count) +
              " numbers of " + dtype_name(dtype));
}

OutputArray::OutputArray(nb::handle given, const char* what, Dtype dtype, const std::vector<int64_t>& shape) {
  if (given.is_none()) {
    const ResultArray made(dtype, shape);
    data_ = made.data();
    array_ = made.numpy();
    return;
  }
  const ArrayView view = input_array(given, what).view;
  int64_t count = 1;
  for (int64_t extent : shape) count = checked_mul(count, extent, what);
  check_numbers(view, what, dtype, count);
  nb::ndarray<nb::device::cpu> writable;
  if (!nb::try_cast(given, writable, false)) throw Error(std::string(what) + ": not writable");
  data_ = writable.data();
  array_ = nb::borrow(given);
}

std::vector<ArrayView> views_of(const std::vector<InputArray>& arrays) {
  std::vector<ArrayView> views;
  for (const InputArray& array : arrays) views.push_back(array.view);
  return views;
}

ResultArray::ResultArray(Dtype dtype, std::vector<int64_t> shape) : dtype_(dtype), shape_(std::move(shape)) {
  int64_t bytes = dtype_bytes(dtype_);
  for (int64_t extent : shape_) bytes = checked_mul(bytes, extent, "a result");
  const int64_t room = round_up(checked_add(bytes, 64, "a result"), 64);
  memory_ = ::operator new(static_cast<size_t>(room), std::align_val_t{64});
  owner_ = nb::capsule(memory_, [](void* memory) noexcept { ::operator delete(memory, std::align_val_t{64}); });
}

nb::object ResultArray::numpy() const {
  const std::vector<size_t> shape(shape_.begin(), shape_.end());
  const nb::ndarray<nb::numpy> array(memory_, shape.size(), shape.data(), owner_, nullptr, to_dlpack(dtype_));
  return nb::cast(array);
}

}  // namespace bitorch
