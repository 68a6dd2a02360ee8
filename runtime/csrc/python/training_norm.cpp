// Steps of training that normalize on the way to a quantizer. bitorch_runtime.training_norm checks what a user passes.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

#include "arrays.h"
#include "core/base/checked.h"
#include "core/base/float_mode.h"
#include "core/training/choice.h"
#include "core/training/forward.h"
#include "core/training/norm.h"
#include "training.h"
#include "training_arguments.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bitorch {
namespace {

const TrainingNormKernels& norm_kernels(const std::string& name) {
  return training_norm_kernels(training_kernels(name));
}

const double* doubles(const InputArray& input) { return static_cast<const double*>(input.view.data); }

// Batch, rows, columns and channels of y.
NormShape norm_shape(const std::vector<int64_t>& g, bool pools) {
  if (g.size() != 4) throw Error("y: its shape must be four numbers");
  if (g[0] < 0 || g[1] < 1 || g[2] < 1 || g[3] < 1) throw Error("y: it has no pixels, or no channels");
  const NormShape shape{g[0], {g[1], g[2]}, g[3], pools};
  if (shape.out().rows < 1 || shape.out().columns < 1) throw Error("y: too small for windows of 2 x 2");
  return shape;
}

int64_t count(const NormShape& s, const Extent& extent) {
  return checked_mul(checked_mul(s.batch, extent.rows, "y"), checked_mul(extent.columns, s.channels, "y"), "y");
}

nb::tuple moments(const std::string& kernel, nb::handle y, int64_t channels, int threads) {
  const TrainingNormKernels& table = norm_kernels(kernel);
  const InputArray ys = input_array(y, "y");
  const int64_t numbers_of_y = ys.view.elements();
  if (channels < 1 || numbers_of_y < 1 || numbers_of_y % channels != 0) throw Error("y: no pixels of so many channels");
  numbers(y, "y", Dtype::kFloat32, numbers_of_y);
  const ResultArray mean(Dtype::kFloat64, {channels}), variance(Dtype::kFloat64, {channels});
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    channel_moments(table, floats(ys), numbers_of_y / channels, channels, check_threads(threads),
                    static_cast<double*>(mean.data()), static_cast<double*>(variance.data()));
  }
  return nb::make_tuple(mean.numpy(), variance.numpy());
}

// y of the layer, what is saved or None, and the winners or None. out: the caller's memory for each, or None.
nb::tuple forward(const std::string& kernel, bool linear, const std::vector<int64_t>& geometry,
                  const std::vector<int64_t>& norm_geometry, bool pools, bool positive, nb::handle y,
                  nb::handle norm_scale, nb::handle norm_shift, int bits, nb::handle codes, nb::handle scale,
                  nb::handle bias, bool save, const nb::tuple& out, int threads) {
  const TrainingKernels& table = training_kernels(kernel);
  const ConvShape shape = shape_from(geometry);
  if (linear) check_linear(shape);
  const NormShape norm = norm_shape(norm_geometry, pools);
  if (norm.batch != shape.batch || norm.outputs() != shape.inputs()) throw Error("y: not what the layer is for");
  const InputArray ys = numbers(y, "y", Dtype::kFloat32, count(norm, norm.in));
  const InputArray norm_scales = numbers(norm_scale, "scale", Dtype::kFloat32, norm.channels);
  const InputArray norm_shifts = numbers(norm_shift, "shift", Dtype::kFloat32, norm.channels);
  const InputArray weights = input_array(codes, "weight");
  const InputArray scales = input_array(scale, "scale_w");
  const bool per_channel = scales.view.elements() != 1;
  numbers(scale, "scale_w", Dtype::kFloat32, per_channel ? shape.out_channels : 1);
  InputArray biases;
  if (!bias.is_none()) biases = numbers(bias, "bias", Dtype::kFloat32, shape.out_channels);
  if (nb::len(out) != 3) throw Error("out: it must be three");
  const Extent extent = shape.out();
  const OutputArray results(out[0], "out[0]", Dtype::kFloat32,
                            {shape.batch, extent.rows, extent.columns, shape.out_channels});
  std::optional<OutputArray> saved, winners;
  if (save) saved.emplace(out[1], "out[1]", Dtype::kUint8, std::vector<int64_t>{saved_bytes(shape, linear, true)});
  if (save && pools) {
    winners.emplace(out[2], "out[2]", Dtype::kUint8,
                    std::vector<int64_t>{norm.batch, norm.out().rows, norm.out().columns, norm.channels});
  }
  const auto bytes = [](const std::optional<OutputArray>& array) {
    return array ? static_cast<uint8_t*>(array->data()) : nullptr;
  };
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    const WeightCodes weight(weights.view, shape);
    const NormInput input{&training_norm_kernels(table), norm,     floats(ys),    floats(norm_scales),
                          floats(norm_shifts),           positive, bytes(winners)};
    const ForwardArgs args{&table,
                           shape,
                           &weight,
                           nullptr,
                           {(1 << check_bits("bits", bits)) - 1, false, 0},
                           floats(scales),
                           per_channel,
                           bias.is_none() ? nullptr : floats(biases),
                           static_cast<float*>(results.data()),
                           bytes(saved),
                           true,
                           check_threads(threads),
                           &input};
    linear ? linear_forward(args) : conv_forward(args);
  }
  const auto result = [](const std::optional<OutputArray>& array) -> nb::object {
    return array ? array->numpy() : nb::none();
  };
  return nb::make_tuple(results.numpy(), result(saved), result(winners));
}

// dy, dgamma and dbeta. out: the caller's memory for each, or None; that of dy may be dv's where nothing pools.
nb::tuple backward(const std::string& kernel, const std::vector<int64_t>& norm_geometry, bool pools, nb::handle dv,
                   nb::handle y, nb::handle winners, nb::handle mean, nb::handle inverse, nb::handle gamma,
                   const nb::tuple& out, int threads) {
  const NormShape shape = norm_shape(norm_geometry, pools);
  const InputArray dvs = numbers(dv, "dv", Dtype::kFloat32, count(shape, shape.out()));
  const InputArray ys = numbers(y, "y", Dtype::kFloat32, count(shape, shape.in));
  InputArray won, gammas;
  if (pools) won = numbers(winners, "winners", Dtype::kUint8, count(shape, shape.out()));
  const InputArray means = numbers(mean, "mean", Dtype::kFloat64, shape.channels);
  const InputArray inverses = numbers(inverse, "inverse", Dtype::kFloat64, shape.channels);
  if (!gamma.is_none()) gammas = numbers(gamma, "gamma", Dtype::kFloat32, shape.channels);
  if (nb::len(out) != 3) throw Error("out: it must be three");
  const OutputArray dy(out[0], "out[0]", Dtype::kFloat32,
                       {shape.batch, shape.in.rows, shape.in.columns, shape.channels});
  const OutputArray dgamma(out[1], "out[1]", Dtype::kFloat32, {shape.channels});
  const OutputArray dbeta(out[2], "out[2]", Dtype::kFloat32, {shape.channels});
  {
    const nb::gil_scoped_release release;
    const IeeeFloats ieee;
    norm_backward({&norm_kernels(kernel), shape, floats(dvs), floats(ys),
                   pools ? static_cast<const uint8_t*>(won.view.data) : nullptr, doubles(means), doubles(inverses),
                   gamma.is_none() ? nullptr : floats(gammas), static_cast<float*>(dy.data()),
                   static_cast<float*>(dgamma.data()), static_cast<float*>(dbeta.data()), check_threads(threads)});
  }
  return nb::make_tuple(dy.numpy(), dgamma.numpy(), dbeta.numpy());
}

}  // namespace

void bind_training_norm(nb::module_& module) {
  module.def("training_moments", &moments, "kernel"_a, "y"_a, "channels"_a, "threads"_a);
  module.def("training_norm_forward", &forward, "kernel"_a, "linear"_a, "geometry"_a, "norm_geometry"_a, "pools"_a,
             "positive"_a, "y"_a, "norm_scale"_a, "norm_shift"_a, "bits"_a, "codes"_a, "scale"_a, "bias"_a.none(),
             "save"_a, "out"_a, "threads"_a);
  module.def("training_norm_backward", &backward, "kernel"_a, "norm_geometry"_a, "pools"_a, "dv"_a, "y"_a,
             "winners"_a.none(), "mean"_a, "inverse"_a, "gamma"_a.none(), "out"_a, "threads"_a);
}

}  // namespace bitorch
