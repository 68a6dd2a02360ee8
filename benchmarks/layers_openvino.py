"""OpenVINO's contestants: an int8 layer, uint8 in and out; and BinaryConvolution, everything in it -1 or +1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from layers_cases import Bits, Layer, Problem
from layers_int8 import Int8Problem
from layers_names import BINARY, BINARY_ALONE, INT8
from layers_timing import Called, Contestant, Sample, fastest_call
from layers_torch import exact_sums

try:
    import openvino
    from openvino import opset1, opset13
except ImportError as error:
    raise ImportError('measuring OpenVINO needs more packages: pip install "bitorch-lowbit[bench]"') from error

NAME = INT8[1]
MORE_LAYERS = 4


def contestants(layer: Layer, threads: int, rng: np.random.Generator) -> list[Contestant]:
    """The int8 layer, and the binary one where BinaryConvolution can do it: no linear and no depthwise layer, and none
    of fewer channels than a byte has bits, for which OpenVINO's binarization has no packed output."""
    int8 = _int8_contestant(layer, threads, rng)
    if layer.linear or layer.groups > 1 or layer.in_channels < 8:
        return [int8]
    alone = BinaryAlone(layer, threads, rng)
    if layer.stride > 1 or layer.in_channels != layer.out_channels:
        return [int8, alone]
    return [int8, Binary(layer, threads, rng), alone]


def _int8_contestant(layer: Layer, threads: int, rng: np.random.Generator) -> Contestant:
    """The layer, written with FakeQuantize as OpenVINO's own quantizer writes it.

    Raises:
        RuntimeError: the output is wrong, or what ran was not one int8 layer alone.
    """
    problem = Int8Problem.random(layer, rng)
    model = _int8_model(problem)
    request = compiled_request(model, threads, problem.inputs)
    request.infer()
    problem.check(NAME, request.get_output_tensor().data)
    executed = _executed(compiled_request(model, threads, problem.inputs, count=True))
    kernels = [node.exec_type for node in executed]
    if len(kernels) != 1 or not kernels[0].endswith(("_I8", "_i8", "_u8")):
        raise RuntimeError(f"OpenVINO ran {kernels} for one int8 layer, {layer.name}")
    return Called(NAME, kernels[0], lambda: request.infer(share_outputs=True))


class Binary:
    """BinaryConvolution with the binarization after it: bits in, bits out.

    OpenVINO has bits only between a binarization and a BinaryConvolution, which gives float32. So a chain of one layer
    and a chain of more are timed, and what the second takes longer counts. It needs a layer that may follow itself.
    """

    def __init__(self, layer: Layer, threads: int, rng: np.random.Generator) -> None:
        self.name = BINARY
        problem = Problem.random(layer, Bits(1, 1, sign=True), rng)
        images = np.ascontiguousarray(problem.inputs.transpose(0, 3, 1, 2), np.float32)
        self._one, self._more = (
            compiled_request(_binary_model(problem, n), threads, images) for n in (1, 1 + MORE_LAYERS)
        )
        self._one.infer()
        expected = exact_sums(layer, 2 * problem.inputs.astype(np.int8) - 1, problem.weights)
        if not np.array_equal(self._one.get_output_tensor().data.transpose(0, 2, 3, 1), expected):
            raise RuntimeError(f"{self.name} {layer.name}: the output is wrong")
        self.kernel = _binary_node(compiled_request(_binary_model(problem, 1), threads, images, count=True)).exec_type

    def sample(self) -> Sample:
        one = fastest_call(lambda: self._one.infer(share_outputs=True))
        more = fastest_call(lambda: self._more.infer(share_outputs=True))
        return Sample(more, max(more - one, 0.0) / MORE_LAYERS)


class BinaryAlone:
    """BinaryConvolution alone: bits in, float32 out, as OpenVINO's counter has it, a mean in whole microseconds."""

    def __init__(self, layer: Layer, threads: int, rng: np.random.Generator) -> None:
        self.name = BINARY_ALONE
        problem = Problem.random(layer, Bits(1, 1, sign=True), rng)
        images = np.ascontiguousarray(problem.inputs.transpose(0, 3, 1, 2), np.float32)
        self._request = compiled_request(_binary_model(problem, 1), threads, images, count=True)
        self.kernel = _binary_node(self._request).exec_type

    def sample(self) -> Sample:
        call = fastest_call(lambda: self._request.infer(share_outputs=True))
        return Sample(call, _binary_node(self._request).real_time.total_seconds())


def compiled_request(
    model: Any, threads: int, inputs: npt.NDArray[Any], count: bool = False, precision: str | None = None
) -> Any:
    """An inference request on these inputs; with `count` it counts the time of each node.

    Args:
        precision: of what is not int8; left out: what OpenVINO likes on this CPU, such as bfloat16 where there is AMX.
    """
    properties: dict[str, object] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": count,
    }
    if precision is not None:
        properties["INFERENCE_PRECISION_HINT"] = precision
    request = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()
    request.set_input_tensor(openvino.Tensor(inputs))
    return request


def _executed(request: Any) -> list[Any]:
    """The nodes that really ran; others were fused or are views."""
    request.infer()
    return [node for node in request.get_profiling_info() if node.status == openvino.ProfilingInfo.Status.EXECUTED]


def _binary_node(request: Any) -> Any:
    """A model's only BinaryConvolution; where it took less than 1 µs, its status is not EXECUTED."""
    request.infer()
    (node,) = (node for node in request.get_profiling_info() if node.node_type == "BinaryConvolution")
    return node


def _number(value: float) -> Any:
    return opset13.constant(np.float32(value))


def _int8_model(problem: Int8Problem) -> Any:
    """uint8 NHWC to uint8 NHWC; OpenVINO's passes turn the float32 in between into int8 arithmetic."""
    layer = problem.layer
    channels = (1, -1) if layer.linear else (1, -1, 1, 1)
    rows = (-1, 1) if layer.linear else (-1, 1, 1, 1)
    shape = layer.input_shape if layer.linear else (layer.batch, layer.in_channels, layer.size, layer.size)
    x = opset13.parameter(list(shape), np.uint8, name="x")
    top = 255 * float(problem.input_scale)
    real = opset13.convert(x, "f32")
    real = opset13.fake_quantize(real, _number(0), _number(255), _number(0), _number(top), 256)
    weights = opset13.convert(opset13.constant(problem.weights), "f32")
    weights = opset13.multiply(weights, opset13.constant(problem.weight_scale.reshape(rows)))
    y = opset13.matmul(real, weights, False, True) if layer.linear else _convolution(layer, real, weights)
    bias = problem.bias * (problem.input_scale * problem.weight_scale)
    y = opset13.add(y, opset13.constant(bias.astype(np.float32).reshape(channels)))
    top = 255 * float(problem.output_scale)
    y = opset13.fake_quantize(y, _number(0), _number(top), _number(0), _number(255), 256)
    y = opset13.convert(y, "u8")
    model = openvino.Model([opset13.result(y)], [x], "int8")
    return model if layer.linear else _channels_last(model)


def _convolution(layer: Layer, x: Any, weights: Any) -> Any:
    geometry = ([layer.stride] * 2, [layer.padding] * 2, [layer.padding] * 2, [1, 1])
    if layer.groups == 1:
        return opset13.convolution(x, weights, *geometry)
    groups = layer.groups
    shape = np.array([groups, layer.out_channels // groups, *layer.weight_shape[1:]])
    return opset13.group_convolution(x, opset13.reshape(weights, opset13.constant(shape), False), *geometry)


def _channels_last(model: Any) -> Any:
    """The same model with NHWC arrays outside."""
    processor = openvino.preprocess.PrePostProcessor(model)
    for port in (processor.input(), processor.output()):
        port.tensor().set_layout(openvino.Layout("NHWC"))
        port.model().set_layout(openvino.Layout("NCHW"))
    return processor.build()


def _binary_model(problem: Problem, layers: int) -> Any:
    """float32 NCHW, binarized at 1/2, through `layers` times the layer, to float32."""
    layer = problem.layer
    x = opset1.parameter([layer.batch, layer.in_channels, layer.size, layer.size], np.float32, name="x")
    y = x
    for _ in range(layers):
        limit = opset1.constant(np.full((1, layer.in_channels, 1, 1), 0.5, np.float32))
        bits = opset1.fake_quantize(y, limit, limit, _number(0), _number(1), 2)
        geometry = ([layer.stride] * 2, [layer.padding] * 2, [layer.padding] * 2, [1, 1])
        y = opset1.binary_convolution(bits, _bit_constant(problem.weights), *geometry, "xnor-popcount", 0.0)
    return openvino.Model([opset1.result(y)], [x], "binary")


def _bit_constant(weights: npt.NDArray[np.int16]) -> Any:
    """Weights -1 and +1 as bits, first weight in the lowest bit of the first byte, as the CPU plugin reads them."""
    tensor = openvino.Tensor(openvino.Type.u1, openvino.Shape(list(weights.shape)))
    tensor.data.reshape(-1)[:] = np.packbits((weights > 0).reshape(-1), bitorder="little")
    return opset13.constant(tensor)
