// Steps of training on codes. bitorch_runtime.training checks what a user passes.
#include "training.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "arrays.h"
#include "core/base/checked.h"
#include "core/base/float_mode.h"
#include "core/base/threads.h"
#include "core/training/backward.h"
#include "core/training/choice.h"
#include "core/training/forward.h"
#include "core/training/forward_planes.h"
#include "core/training/workers.h"
#include "training_arguments.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

constexpr const char* kGradients[3] = {"out[0]", "out[1]", "out[2]"};

// Of quantized floats where low is none.
InputCodes input_codes(int bits, std::optional<int> low, bool masked) {
  const InputCodes input{(1 << check_bits("bits", bits)) - 1, low.has_value(), low.value_or(0)};
  if (input.low < -255 || input.low > 0) throw Error("low: it must be from -255 to 0");
  if (input.given && masked) throw Error("low: codes have no mask");
  return input;
}

// y, what is saved or None, and whether x holds a NaN. out: of y and of what is saved, the caller's memory or None.
nb::tuple forward(const std::string& kernel, bool linear, const std::vector<int64_t>& geometry, nb::handle x, int bits,
                  std::optional<int> low, nb::handle codes, nb::handle scale, nb::handle bias, bool save, bool masked,
                  const nb::tuple& out, int threads) {
  const TrainingKernels& table = training_kernels(kernel);
  const ConvShape shape = shape_from(geometry);
  if (linear) check_linear(shape);
  const InputArray xs = numbers(x, "x", Dtype::kFloat32, checked_mul(shape.batch, shape.inputs(), "x"));
  const InputArray weights = input_array(codes, "weight");
  const InputArray scales = input_array(scale, "scale");
  const bool per_channel = scales.view.elements() != 1;
  numbers(scale, "scale", Dtype::kFloat32, per_channel ? shape.out_channels : 1);
  InputArray biases;
  if (!bias.is_none()) biases = numbers(bias, "bias", Dtype::kFloat32, shape.out_channels);
  if (nb::len(out) != 2) throw Error("out: it must be two");
  const Extent extent = shape.out();
  const OutputArray y(out[0], "out[0]", Dtype::kFloat32,
                      {shape.batch, extent.rows, extent.columns, shape.out_channels});
  std::optional<OutputArray> saved;
  if (save) saved.emplace(out[1], "out[1]", Dtype::kUint8, std::vector<int64_t>{saved_bytes(shape, linear, masked)});
  bool holds_nan;
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    const WeightCodes weight(weights.view, shape);
    const ForwardArgs args{&table,
                           shape,
                           &weight,
                           floats(xs),
                           input_codes(bits, low, masked),
                           floats(scales),
                           per_channel,
                           bias.is_none() ? nullptr : floats(biases),
                           static_cast<float*>(y.data()),
                           save ? static_cast<uint8_t*>(saved->data()) : nullptr,
                           masked,
                           check_threads(threads)};
    holds_nan = linear ? linear_forward(args) : conv_forward(args);
  }
  return nb::make_tuple(y.numpy(), save ? saved->numpy() : nb::none(), holds_nan);
}

// Whether forward computes on bit planes.
bool forward_planes(const std::string& kernel, bool linear, const std::vector<int64_t>& geometry, int bits,
                    std::optional<int> low, nb::handle codes) {
  const ConvShape shape = shape_from(geometry);
  if (linear) check_linear(shape);
  const InputArray weights = input_array(codes, "weight");
  return planes_pay(training_kernels(kernel), shape, WeightCodes(weights.view, shape), input_codes(bits, low, false));
}

GradientSpec gradient_spec(int bits, bool has_zero, const std::optional<std::vector<uint32_t>>& key) {
  GradientSpec spec{check_bits("gradient bits", bits), has_zero, key.has_value(), {0, 0}};
  if (has_zero && bits == 1) throw Error("gradient bits: 1, and a grid with a zero has 2 at least");
  if (!key.has_value()) return spec;
  if (key->size() != 2) throw Error("key: it must be two numbers");
  spec.key[0] = (*key)[0];
  spec.key[1] = (*key)[1];
  return spec;
}

// dx, dw and dbias, None where they are not asked for. out: the caller's memory for each, or None.
nb::tuple backward(const std::string& kernel, bool linear, const std::vector<int64_t>& geometry, nb::handle g,
                   int gradient_bits, bool has_zero, const std::optional<std::vector<uint32_t>>& key, nb::handle codes,
                   float weight_scale, nb::handle saved, bool masked, int bits, std::optional<int> low,
                   float input_scale, const std::vector<bool>& needs, const nb::tuple& out, int threads) {
  const TrainingKernels& table = training_kernels(kernel);
  const ConvShape shape = shape_from(geometry);
  if (linear) check_linear(shape);
  if (needs.size() != 3 || nb::len(out) != 3) throw Error("needs, out: they must be three");
  const InputArray gs = numbers(g, "g", Dtype::kFloat32, checked_mul(shape.batch, shape.outputs(), "g"));
  const InputArray kept = numbers(saved, "saved", Dtype::kUint8, saved_bytes(shape, linear, masked));
  const InputArray weights = input_array(codes, "weight");
  const std::vector<int64_t> shapes[3]{
      {shape.batch, shape.in.rows, shape.in.columns, shape.in_channels},
      {shape.out_channels, shape.kernel.rows, shape.kernel.columns, shape.of_group().in_channels},
      {shape.out_channels}};
  std::optional<OutputArray> results[3];
  for (size_t i = 0; i < 3; ++i) {
    if (needs[i]) results[i].emplace(out[i], kGradients[i], Dtype::kFloat32, shapes[i]);
  }
  const auto memory = [&](size_t i) { return results[i] ? static_cast<float*>(results[i]->data()) : nullptr; };
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    const WeightCodes weight(weights.view, shape);
    const BackwardArgs args{&table,
                            shape,
                            gradient_spec(gradient_bits, has_zero, key),
                            floats(gs),
                            &weight,
                            weight_scale,
                            static_cast<const uint8_t*>(kept.view.data),
                            masked,
                            input_codes(bits, low, masked),
                            input_scale,
                            memory(0),
                            memory(1),
                            memory(2),
                            check_threads(threads)};
    linear ? linear_backward(args) : conv_backward(args);
  }
  const auto result = [&](size_t i) -> nb::object { return results[i] ? results[i]->numpy() : nb::none(); };
  return nb::make_tuple(result(0), result(1), result(2));
}

nb::tuple codes_of(const std::string& kernel, nb::handle g, int bits, bool has_zero,
                   const std::optional<std::vector<uint32_t>>& key, int threads) {
  const TrainingKernels& table = training_kernels(kernel);
  const InputArray input = input_array(g, "g");
  if (input.view.shape.empty()) throw Error("g: it needs a batch axis");
  const int64_t samples = input.view.shape[0], count = input.view.elements();
  const InputArray gs = numbers(g, "g", Dtype::kFloat32, count);
  const GradientSpec spec = gradient_spec(bits, has_zero, key);
  check_threads(threads);
  const ResultArray codes(Dtype::kInt8, input.view.shape);
  const ResultArray scale(Dtype::kFloat32, {samples});
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    gradient_codes(table, spec, floats(gs), samples, samples == 0 ? 0 : count / samples, threads,
                   static_cast<int8_t*>(codes.data()), static_cast<float*>(scale.data()));
  }
  return nb::make_tuple(codes.numpy(), scale.numpy());
}

}  // namespace

void bind_training(nb::module_& module) {
  module.def("training_kernels", &available_training_kernels);
  module.def("training_kernel", [](const std::string& name) { return training_kernels(name).name; }, "name"_a);
  module.def(
      "training_executor", [](uintptr_t address) { set_executor(reinterpret_cast<Executor>(address)); }, "address"_a);
  module.def("training_forward", &forward, "kernel"_a, "linear"_a, "geometry"_a, "x"_a, "bits"_a, "low"_a.none(),
             "codes"_a, "scale"_a, "bias"_a.none(), "save"_a, "masked"_a, "out"_a, "threads"_a);
  module.def("training_forward_planes", &forward_planes, "kernel"_a, "linear"_a, "geometry"_a, "bits"_a, "low"_a.none(),
             "codes"_a);
  module.def("training_backward", &backward, "kernel"_a, "linear"_a, "geometry"_a, "g"_a, "gradient_bits"_a,
             "has_zero"_a, "key"_a.none(), "codes"_a, "weight_scale"_a, "saved"_a, "masked"_a, "bits"_a, "low"_a.none(),
             "input_scale"_a, "needs"_a, "out"_a, "threads"_a);
  module.def("training_codes", &codes_of, "kernel"_a, "g"_a, "bits"_a, "has_zero"_a, "key"_a.none(), "threads"_a);
  bind_training_norm(module);
  bind_few_channels(module);
}

}  // namespace bitorch
