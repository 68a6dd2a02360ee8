// The module bitorch_runtime._native: what Python calls. _native.pyi says what each function takes and gives.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>

#include "arrays.h"
#include "core/base/checked.h"
#include "core/base/cpu.h"
#include "core/base/cpu_count.h"
#include "core/base/packing.h"
#include "core/base/threads.h"
#include "core/format/packed_file.h"
#include "core/program/model.h"
#include "layer_call.h"
#include "program.h"
#include "training.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

// Decoded with replacement: a message may quote a part of the input that ends within a character.
void translate_error(const std::exception_ptr& exception, void*) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    PyObject* text = PyUnicode_DecodeUTF8(error.what(), static_cast<Py_ssize_t>(std::strlen(error.what())), "replace");
    if (text == nullptr) return;
    PyErr_SetObject(PyExc_ValueError, text);
    Py_DECREF(text);
  }
}

// A matrix of bytes, [rows, columns].
InputArray byte_matrix(nb::handle object, const std::string& what) {
  InputArray input = input_array(object, what);
  if (input.view.dtype != Dtype::kUint8 || input.view.shape.size() != 2) {
    throw Error(what + ": " + input.view.describe() + " was given; it must be uint8 of two dimensions");
  }
  return input;
}

void check_bits(int bits) {
  if (bits < 1 || bits > 8) throw Error("bits: " + std::to_string(bits) + "; it must be from 1 to 8");
}

nb::object pack_weights(nb::handle codes, int bits) {
  check_bits(bits);
  const InputArray input = byte_matrix(codes, "codes");
  const int64_t rows = input.view.shape[0], columns = input.view.shape[1];
  if (columns > (int64_t{1} << 56)) throw Error("codes: " + std::to_string(columns) + " columns are out of range");
  const auto* m = static_cast<const uint8_t*>(input.view.data);
  const int highest = (1 << bits) - 1;
  const uint8_t* largest = std::max_element(m, m + rows * columns);
  if (rows * columns > 0 && *largest > highest) {
    throw Error("codes: the value " + std::to_string(*largest) + " does not fit in " + std::to_string(bits) + " bits");
  }
  const int64_t row_bytes = packed_row_bytes(columns, bits);
  const ResultArray result(Dtype::kUint8, {rows, row_bytes});
  auto* out = static_cast<uint8_t*>(result.data());
  for (int64_t row = 0; row < rows; ++row) pack_row(m + row * columns, columns, bits, out + row * row_bytes);
  return result.numpy();
}

nb::object unpack_weights(nb::handle packed, int bits, int64_t columns) {
  check_bits(bits);
  if (columns < 0 || columns > (int64_t{1} << 56))
    throw Error("columns: " + std::to_string(columns) + " is out of range");
  const InputArray input = byte_matrix(packed, "packed");
  const int64_t rows = input.view.shape[0], row_bytes = packed_row_bytes(columns, bits);
  if (input.view.shape[1] != row_bytes) {
    throw Error("packed: rows of " + std::to_string(input.view.shape[1]) + " bytes were given; " +
                std::to_string(columns) + " weights of " + std::to_string(bits) + " bits take " +
                std::to_string(row_bytes));
  }
  const ResultArray result(Dtype::kUint8, {rows, columns});
  const auto* bytes = static_cast<const uint8_t*>(input.view.data);
  auto* out = static_cast<uint8_t*>(result.data());
  for (int64_t row = 0; row < rows; ++row) unpack_row(bytes + row * row_bytes, columns, bits, out + row * columns);
  return result.numpy();
}

}  // namespace
}  // namespace bitorch

NB_MODULE(_native, module) {
  using namespace bitorch;
  nb::register_exception_translator(translate_error, nullptr);
  module.attr("version") = BITORCH_RUNTIME_VERSION;
  module.attr("format_version") = kFormatVersion;
  module.attr("memory_limit") = kMemoryLimit;
  module.def("available_kernels", &available_kernels);
  module.def("kernels_name", [] { return kernels().name; });
  module.def("cpu_flags", &cpu_flags);
  module.def("cpu_name", &cpu_name);
  module.def("usable_cpus", &usable_cpus);
  module.def("set_num_threads", &set_num_threads, "n"_a);
  module.def("get_num_threads", &get_num_threads);
  module.def("pack_weights", &pack_weights, "codes"_a, "bits"_a);
  module.def("unpack_weights", &unpack_weights, "packed"_a, "bits"_a, "columns"_a);
  bind_program(module);
  bind_layer_call(module);
  bind_training(module);
}
