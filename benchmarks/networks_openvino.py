"""OpenVINO's contestant: the network with FakeQuantize, as OpenVINO's own quantizer writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from layers_openvino import compiled_request
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_int8 import INPUT_SCALE, TOP, Int8Net, Step

try:
    import openvino
    from openvino import opset13
except ImportError as error:
    raise ImportError('measuring OpenVINO needs more packages: pip install "bitorch[bench]"') from error

NAME = "OpenVINO int8"


def contestant(net: Int8Net, images: npt.NDArray[np.uint8], threads: int) -> Contestant:
    """
    Raises:
        RuntimeError: the scores are wrong, or a convolution did not run in int8.
    """
    model = _model(net, len(images))
    request = compiled_request(model, threads, images, count=True)
    request.infer()
    net.check(NAME, images, request.get_output_tensor().data)
    kernels = [node.exec_type for node in request.get_profiling_info() if node.node_type == "Convolution"]
    if not kernels or not all(kernel.endswith(("_I8", "_i8", "_u8")) for kernel in kernels):
        raise RuntimeError(f"OpenVINO ran its convolutions as {kernels}")
    request = compiled_request(model, threads, images, count=False)
    return Called(NAME, kernels[1], lambda: request.infer(share_outputs=True), NETWORK_SECONDS)


def _number(value: float) -> Any:
    return opset13.constant(np.float32(value))


def _quantized(x: Any, low: float, high: float) -> Any:
    return opset13.fake_quantize(x, _number(low), _number(high), _number(low), _number(high), 256)


def _model(net: Int8Net, batch: int) -> Any:
    """uint8 NHWC to float32 scores."""
    image = opset13.parameter([batch, 3, net.size, net.size], np.uint8, name="image")
    x = opset13.convert(image, "f32")
    top = 255 * INPUT_SCALE
    tensors = {"image": opset13.fake_quantize(x, _number(0), _number(255), _number(0), _number(top), 256)}
    for step in net.steps:
        tensors[step.name] = _step(step, tensors)
    model = openvino.Model([opset13.result(tensors["scores"])], [image], "int8")
    processor = openvino.preprocess.PrePostProcessor(model)
    processor.input().tensor().set_layout(openvino.Layout("NHWC"))
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    return processor.build()


def _step(step: Step, tensors: dict[str, Any]) -> Any:
    x = tensors[step.input]
    sides = [step.padding] * 2
    if step.kind == "mean":
        return _quantized(opset13.reduce_mean(x, opset13.constant(np.array([2, 3])), True), 0, TOP)
    if step.kind == "max_pool":
        return opset13.max_pool(x, [step.stride] * 2, [1, 1], sides, sides, [step.kernel] * 2).output(0)
    weights = opset13.convert(opset13.constant(step.weight), "f32")
    weights = opset13.multiply(weights, opset13.constant(step.scale.reshape(-1, 1, 1, 1)))
    y = opset13.convolution(x, weights, [step.stride] * 2, sides, sides, [1, 1])
    y = opset13.add(y, opset13.constant(step.bias.reshape(1, -1, 1, 1)))
    if step.residual is not None:
        y = opset13.add(y, tensors[step.residual])
    if step.relu:
        return _quantized(opset13.relu(y), 0, TOP)
    return y if step.name == "scores" else _quantized(y, -TOP, TOP)
