"""OpenVINO's contestants: the network in float32, and with FakeQuantize as OpenVINO's own quantizer writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from layers_openvino import compiled_request
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_graph import IMAGE, PASSING, Graph, Node
from networks_names import OPENVINO_FLOAT, OPENVINO_INT8

try:
    import openvino
    from openvino import opset13
except ImportError as error:
    raise ImportError('measuring OpenVINO needs more packages: pip install "bitorch-lowbit[bench]"') from error

INT8_KERNELS = ("_I8", "_i8", "_u8")


def contestants(graph: Graph, threads: int, floats: bool) -> list[Contestant]:
    """In int8, and with `floats` in float32.

    Raises:
        RuntimeError: the scores are wrong, or a convolution did not run in int8.
    """
    return [*([_float(graph, threads)] if floats else []), _int8(graph, threads)]


def _float(graph: Graph, threads: int) -> Contestant:
    request = compiled_request(_model(graph, int8=False), threads, graph.images, precision="f32")
    request.infer()
    graph.check(OPENVINO_FLOAT, request.get_output_tensor().data, 1e-2)
    return Called(OPENVINO_FLOAT, "", lambda: request.infer(share_outputs=True), NETWORK_SECONDS)


def _int8(graph: Graph, threads: int) -> Contestant:
    model = _model(graph, int8=True)
    request = compiled_request(model, threads, graph.images, count=True)
    request.infer()
    graph.check(OPENVINO_INT8, request.get_output_tensor().data)
    kernels = [node.exec_type for node in request.get_profiling_info() if node.node_type == "Convolution"]
    if not kernels or not all(kernel.endswith(INT8_KERNELS) for kernel in kernels):
        raise RuntimeError(f"OpenVINO ran its convolutions as {kernels}")
    request = compiled_request(model, threads, graph.images)
    kernel = max(set(kernels), key=kernels.count)
    return Called(OPENVINO_INT8, kernel, lambda: request.infer(share_outputs=True), NETWORK_SECONDS)


def _number(value: float) -> Any:
    return opset13.constant(np.float32(value))


def _model(graph: Graph, int8: bool) -> Any:
    """uint8 NHWC to float32 scores."""
    batch, height, width, channels = graph.images.shape
    image = opset13.parameter([batch, channels, height, width], np.uint8, name="image")
    x = opset13.multiply(opset13.convert(image, "f32"), _number(1 / 255))
    tensors = {IMAGE: _quantized(graph, IMAGE, x) if int8 else x}
    for node in graph.nodes:
        y = _operation(node, [tensors[name] for name in node.inputs], batch, int8)
        tensors[node.name] = _quantized(graph, node.name, y) if int8 and _is_quantized(graph, node) else y
    model = openvino.Model([opset13.result(tensors[graph.nodes[-1].name])], [image], "network")
    processor = openvino.preprocess.PrePostProcessor(model)
    processor.input().tensor().set_layout(openvino.Layout("NHWC"))
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    return processor.build()


def _is_quantized(graph: Graph, node: Node) -> bool:
    """Whether codes of 8 bits leave the node: not from one whose numbers go into a function or an addition that runs
    with it, nor where codes went in and are passed on."""
    if node.kind in PASSING or node is graph.nodes[-1] or graph.function_of(node) is not None:
        return False
    readers = graph.readers[node.name]
    return not (node.kind == "conv" and len(readers) == 1 and readers[0].kind == "add")


def _quantized(graph: Graph, name: str, x: Any) -> Any:
    range_ = graph.ranges[name]
    low, high = _number(range_.low), _number(range_.high)
    return opset13.fake_quantize(x, low, high, low, high, 256)


def _operation(node: Node, inputs: list[Any], batch: int, int8: bool) -> Any:
    x, sides = inputs[0], [node.padding] * 2
    rounding = "ceil" if node.ceil else "floor"
    match node.kind:
        case "conv" | "linear":
            return _products(node, x, batch, int8)
        case "affine":
            return opset13.add(opset13.multiply(x, _row(node.weight)), _row(node.bias))
        case "relu":
            return opset13.relu(x)
        case "relu6":
            return opset13.clamp(x, 0.0, 6.0)
        case "silu":
            return opset13.swish(x)
        case "sigmoid":
            return opset13.sigmoid(x)
        case "add":
            return opset13.add(*inputs)
        case "mul":
            return opset13.multiply(*inputs)
        case "concat":
            return opset13.concat(inputs, 1)
        case "max_pool":
            window = [node.window] * 2
            return opset13.max_pool(x, [node.stride] * 2, [1, 1], sides, sides, window, rounding).output(0)
        case "avg_pool":
            window = [node.window] * 2
            return opset13.avg_pool(x, [node.stride] * 2, sides, sides, window, False, rounding)
        case "mean":
            return opset13.reduce_mean(x, opset13.constant(np.array([2, 3])), True)
        case "shuffle":
            return opset13.shuffle_channels(x, 1, node.groups)
        case "slice":
            ends = [opset13.constant(np.array([number])) for number in (*node.channels, 1, 1)]
            return opset13.slice(x, *ends)


def _row(values: npt.NDArray[np.float32]) -> Any:
    return opset13.constant(values.reshape(1, -1, 1, 1))


def _products(node: Node, x: Any, batch: int, int8: bool) -> Any:
    weights = opset13.constant(node.weight)
    if int8:
        codes, scale = node.int8_weight()
        weights = opset13.convert(opset13.constant(codes), "f32")
        weights = opset13.multiply(weights, opset13.constant(scale.reshape(-1, *[1] * (codes.ndim - 1))))
    if node.kind == "linear":
        flat = opset13.reshape(x, opset13.constant(np.array([batch, -1])), False)
        return opset13.add(opset13.matmul(flat, weights, False, True), opset13.constant(node.bias.reshape(1, -1)))
    sides = [node.padding] * 2
    geometry = ([node.stride] * 2, sides, sides, [1, 1])
    if node.groups == 1:
        y = opset13.convolution(x, weights, *geometry)
    else:
        shape = np.array([node.groups, -1, *node.weight.shape[1:]])
        y = opset13.group_convolution(x, opset13.reshape(weights, opset13.constant(shape), False), *geometry)
    return opset13.add(y, _row(node.bias))
