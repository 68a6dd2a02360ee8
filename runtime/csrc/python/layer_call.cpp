// A program of one float32 input and of float32 outputs, called with addresses: a layer of one token is computed in a
// microsecond, and to make arrays of tensors, check and name them takes several.
#include "layer_call.h"

#include <cstring>
#include <vector>

#include "arrays.h"
#include "core/base/checked.h"
#include "core/base/holds_nan.h"
#include "core/program/program.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

class LayerCall {
 public:
  // Values of run().
  enum Result : int { kDone = 0, kHoldsNan = 1, kOtherArrays = 2 };

  LayerCall(nb::object program, const nb::list& arrays) : owner_(std::move(program)) {
    if (!nb::try_cast(owner_, program_, false)) throw nb::type_error("program: must be a Program");
    bool is_layer = program_->inputs().size() == 1 && program_->inputs()[0].dtype == Dtype::kFloat32;
    for (const Program::Port& port : program_->outputs()) is_layer = is_layer && port.dtype == Dtype::kFloat32;
    if (!is_layer) throw Error("program: it must have one input, float32 as its outputs are");
    for (nb::handle array : arrays) {
      const InputArray input = input_array(array, "arrays");
      const auto* bytes = static_cast<const char*>(input.view.data);
      const int64_t size = checked_mul(input.view.elements(), dtype_bytes(input.view.dtype), "arrays");
      arrays_.emplace_back(bytes, bytes + size);
    }
    shape_ = program_->inputs()[0].shape;
    for (int64_t extent : shape_) inputs_ = checked_mul(inputs_, extent, "an input");
  }

  // x and the addresses are what their tensors' data_ptr() says: of batch inputs; first of room for batch results of
  // each output, then of as many bytes as each of the arrays has.
  int run(uintptr_t x, int64_t batch, const nb::args& addresses) const {
    const size_t results = program_->outputs().size();
    if (addresses.size() != results + arrays_.size()) {
      throw Error("addresses: there must be one for each output, then one for each array");
    }
    for (size_t i = 0; i < arrays_.size(); ++i) {
      if (std::memcmp(at(addresses, results + i), arrays_[i].data(), arrays_[i].size()) != 0) return kOtherArrays;
    }
    const auto* values = reinterpret_cast<const float*>(x);
    const std::vector<ArrayView> inputs{view(values, batch)};
    std::vector<void*> outputs;
    for (size_t i = 0; i < results; ++i) outputs.push_back(at(addresses, i));
    const nb::gil_scoped_release release;
    program_->run(inputs, outputs);
    return holds_nan(values, checked_mul(batch, inputs_, "an input")) ? kHoldsNan : kDone;
  }

 private:
  static void* at(const nb::args& addresses, size_t i) {
    return reinterpret_cast<void*>(nb::cast<uintptr_t>(addresses[i]));
  }

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
      .def("run", &LayerCall::run, "x"_a, "batch"_a, "addresses"_a);
}

}  // namespace bitorch
