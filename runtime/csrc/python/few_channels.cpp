// Convolutions of few channels. bitorch_runtime.few_channels checks what a user passes.
#include "core/training/few_channels.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

#include "arrays.h"
#include "core/base/checked.h"
#include "core/base/float_mode.h"
#include "training.h"
#include "training_arguments.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

// Kernels count in 32 bits.
constexpr int64_t kMostOfAnAxis = 1 << 30;

// Error: groups, or more than the kernels can count.
ConvShape ungrouped(const std::vector<int64_t>& geometry) {
  const ConvShape shape = shape_from(geometry);
  if (shape.groups != 1) throw Error("groups: must be 1");
  for (const int64_t count : {shape.taps() * shape.in_channels, shape.out().columns, shape.out_channels}) {
    if (count > kMostOfAnAxis) throw Error("geometry: an axis of " + std::to_string(count) + " is too long");
  }
  return shape;
}

std::vector<int64_t> weight_shape(const ConvShape& s) {
  return {s.kernel.rows, s.kernel.columns, s.in_channels, s.out_channels};
}

std::vector<int64_t> shape_of_y(const ConvShape& s) { return {s.batch, s.out().rows, s.out().columns, s.out_channels}; }

// out: the caller's memory for y, or None.
nb::object forward(const std::string& kernel, const std::vector<int64_t>& geometry, nb::handle x, nb::handle weight,
                   nb::handle bias, nb::handle out, int threads) {
  const ConvShape shape = ungrouped(geometry);
  const InputArray xs = numbers(x, "x", Dtype::kFloat32, shape.batch * shape.inputs());
  const InputArray weights =
      numbers(weight, "weight", Dtype::kFloat32, shape.taps() * shape.in_channels * shape.out_channels);
  InputArray biases;
  if (!bias.is_none()) biases = numbers(bias, "bias", Dtype::kFloat32, shape.out_channels);
  const OutputArray y(out, "out", Dtype::kFloat32, shape_of_y(shape));
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    few_channels_forward({&few_channels_kernels(kernel), shape, floats(xs), floats(weights),
                          bias.is_none() ? nullptr : floats(biases), static_cast<float*>(y.data()),
                          check_threads(threads)});
  }
  return y.numpy();
}

// The gradients of the weight, and of the bias or None. out: the caller's memory for each, or None.
nb::tuple backward(const std::string& kernel, const std::vector<int64_t>& geometry, nb::handle x, nb::handle g,
                   bool has_bias, const nb::tuple& out, int threads) {
  const ConvShape shape = ungrouped(geometry);
  const InputArray xs = numbers(x, "x", Dtype::kFloat32, shape.batch * shape.inputs());
  const InputArray gs = numbers(g, "g", Dtype::kFloat32, shape.batch * shape.outputs());
  if (nb::len(out) != 2) throw Error("out: it must be two");
  const OutputArray weight(out[0], "out[0]", Dtype::kFloat32, weight_shape(shape));
  std::optional<OutputArray> bias;
  if (has_bias) bias.emplace(out[1], "out[1]", Dtype::kFloat32, std::vector<int64_t>{shape.out_channels});
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    few_channels_backward({&few_channels_kernels(kernel), shape, floats(xs), floats(gs),
                           static_cast<float*>(weight.data()), bias ? static_cast<float*>(bias->data()) : nullptr,
                           check_threads(threads)});
  }
  return nb::make_tuple(weight.numpy(), bias ? bias->numpy() : nb::none());
}

}  // namespace

void bind_few_channels(nb::module_& module) {
  module.def("few_channels_forward", &forward, "kernel"_a, "geometry"_a, "x"_a, "weight"_a, "bias"_a.none(),
             "out"_a.none(), "threads"_a);
  module.def("few_channels_backward", &backward, "kernel"_a, "geometry"_a, "x"_a, "g"_a, "has_bias"_a, "out"_a,
             "threads"_a);
}

}  // namespace bitorch
