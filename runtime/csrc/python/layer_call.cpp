// A program of one float32 input and one float32 output, called with addresses: a layer of one token is computed in a
// microsecond, and to make arrays of tensors, check and name them takes several.
#include "layer_call.h"

#include <cstring>
#include <vector>

#include "arrays.h"
#include "core/base/checked.h"
#include "core/program/program.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

// One comparison for two numbers: they have no order where one of them is NaN.
bool holds_nan(const float* x, int64_t n) {
  const int64_t half = n / 2;
  const float* second = x + half;
  int found = n > 0 && __builtin_isunordered(x[n - 1], x[n - 1]);
  for (int64_t i = 0; i < half; ++i) found |= __builtin_isunordered(x[i], second[i]);
  return found != 0;
}

class LayerCall {
 public:
  // Values of run().
  enum Result : int { kDone = 0, kHoldsNan = 1, kOtherArrays = 2 };

  LayerCall(nb::object program, const nb::list& arrays) : owner_(std::move(program)) {
    if (!nb::try_cast(owner_, program_, false)) throw nb::type_error("program: must be a Program");
    const bool is_layer = program_->inputs().size() == 1 && program_->outputs().size() == 1;
    if (!is_layer || program_->inputs()[0].dtype != Dtype::kFloat32 ||
        program_->outputs()[0].dtype != Dtype::kFloat32) {
      throw Error("program: it must have one input and one output, both float32");
    }
    for (nb::handle array : arrays) {
      const InputArray input = input_array(array, "arrays");
      const auto* bytes = static_cast<const char*>(input.view.data);
      const int64_t size = checked_mul(input.view.elements(), dtype_bytes(input.view.dtype), "arrays");
      arrays_.emplace_back(bytes, bytes + size);
    }
    shape_ = program_->inputs()[0].shape;
    for (int64_t extent : shape_) inputs_ = checked_mul(inputs_, extent, "an input");
  }

  // x, y and addresses[i] are what their tensors' data_ptr() says: of batch inputs, of room for batch outputs, and of
  // as many bytes as arrays[i] has.
  int run(uintptr_t x, int64_t batch, uintptr_t y, const nb::args& addresses) const {
    if (addresses.size() != arrays_.size()) throw Error("addresses: there must be one for each array");
    for (size_t i = 0; i < arrays_.size(); ++i) {
      const auto* given = reinterpret_cast<const void*>(nb::cast<uintptr_t>(addresses[i]));
      if (std::memcmp(given, arrays_[i].data(), arrays_[i].size()) != 0) return kOtherArrays;
    }
    const auto* values = reinterpret_cast<const float*>(x);
    const std::vector<ArrayView> inputs{view(values, batch)};
    const std::vector<void*> outputs{reinterpret_cast<void*>(y)};
    const nb::gil_scoped_release release;
    program_->run(inputs, outputs);
    return holds_nan(values, checked_mul(batch, inputs_, "an input")) ? kHoldsNan : kDone;
  }

 private:
  ArrayView view(const void* data, int64_t batch) const {
    ArrayView view;
    view.dtype = Dtype::kFloat32;
    view.shape.reserve(shape_.size() + 1);
    view.shape.push_back(batch);
    view.shape.insert(view.shape.end(), shape_.begin(), shape_.end());
    view.data = data;
    return view;
  }

  nb::object owner_;
  const Program* program_ = nullptr;
  std::vector<std::vector<char>> arrays_;
  std::vector<int64_t> shape_;
  int64_t inputs_ = 1;
};

}  // namespace

void bind_layer_call(nb::module_& module) {
  nb::class_<LayerCall>(module, "LayerCall")
      .def(nb::init<nb::object, const nb::list&>(), "program"_a, "arrays"_a)
      .def("run", &LayerCall::run, "x"_a, "batch"_a, "y"_a, "addresses"_a);
}

}  // namespace bitorch
