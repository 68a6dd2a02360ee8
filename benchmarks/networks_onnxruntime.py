"""ONNX Runtime's contestant: the network of quantized operators, as ONNX Runtime's own quantizer writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from layers_onnxruntime import optimized_session
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_int8 import INPUT_SCALE, TOP, Int8Net, Step

try:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError('measuring ONNX Runtime needs more packages: pip install "bitorch[bench]"') from error

NAME = "ONNX Runtime int8"
DOMAIN = "com.microsoft"


def contestant(net: Int8Net, images: npt.NDArray[np.uint8], threads: int) -> Contestant:
    """
    Raises:
        RuntimeError: the scores are wrong, or a convolution did not run in int8.
    """
    session, nodes = optimized_session(_model(net, len(images)), threads)
    if any("Conv" in node and node != "QLinearConv" for node in nodes):
        raise RuntimeError(f"ONNX Runtime ran {nodes}")
    inputs = onnxruntime.OrtValue.ortvalue_from_numpy(images)
    binding = session.io_binding()
    binding.bind_ortvalue_input("image", inputs)
    binding.bind_output("scores")
    session.run_with_iobinding(binding)
    net.check(NAME, images, binding.copy_outputs_to_cpu()[0])
    return Called(NAME, "QLinearConv", lambda: session.run_with_iobinding(binding), NETWORK_SECONDS)


@dataclass
class _Tensor:
    """A quantized tensor: its name, and those of its scale and zero point."""

    name: str
    scale: float
    zero: int

    def names(self) -> list[str]:
        return [self.name, f"{self.name}.scale", f"{self.name}.zero"]


@dataclass
class _Graph:
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    tensors: dict[str, _Tensor] = field(default_factory=dict)

    def define(self, name: str, scale: float, zero: int = 0) -> _Tensor:
        tensor = self.tensors[name] = _Tensor(name, scale, zero)
        self.constants |= {f"{name}.scale": np.float32(scale).reshape(()), f"{name}.zero": np.uint8(zero).reshape(())}
        return tensor

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))

    def step(self, step: Step) -> None:
        x = self.tensors[step.input]
        if step.kind == "mean":
            y = self.define(step.name, TOP / 255)
            inputs = [*x.names(), *y.names()[1:]]
            self.node("QLinearGlobalAveragePool", inputs, y.name, domain=DOMAIN, channels_last=0)
        elif step.kind == "max_pool":
            y = self.define(step.name, x.scale, x.zero)
            window = {"kernel_shape": [step.kernel] * 2, "strides": [step.stride] * 2, "pads": [step.padding] * 4}
            self.node("MaxPool", [x.name], y.name, **window)
        else:
            self.conv(step, x)

    def conv(self, step: Step, x: _Tensor) -> None:
        """ReLU is the clamp at zero; a residual is added by a node of its own, to a signed tensor."""
        name = step.name if step.residual is None else f"{step.name}.sums"
        signed = not step.relu or step.residual is not None
        y = self.define(name, TOP / 128, 128) if signed else self.define(name, TOP / 255)
        weight = f"{step.name}.weight"
        self.constants |= {
            weight: step.weight,
            f"{weight}.scale": step.scale,
            f"{weight}.zero": np.zeros(len(step.scale), np.int8),
            f"{step.name}.bias": np.rint(step.bias / (x.scale * step.scale)).astype(np.int32),
        }
        inputs = [*x.names(), weight, f"{weight}.scale", f"{weight}.zero", *y.names()[1:], f"{step.name}.bias"]
        window = {"kernel_shape": [step.kernel] * 2, "strides": [step.stride] * 2, "pads": [step.padding] * 4}
        self.node("QLinearConv", inputs, y.name, **window)
        if step.residual is not None:
            sum_ = self.define(step.name, TOP / 255)
            inputs = [*y.names(), *self.tensors[step.residual].names(), *sum_.names()[1:]]
            self.node("QLinearAdd", inputs, sum_.name, domain=DOMAIN)


def _model(net: Int8Net, batch: int) -> bytes:
    """uint8 NHWC to float32 scores."""
    graph = _Graph()
    graph.define("image.nchw", INPUT_SCALE)
    graph.node("Transpose", ["image"], "image.nchw", perm=[0, 3, 1, 2])
    graph.tensors["image"] = graph.tensors["image.nchw"]
    for step in net.steps:
        graph.step(step)
    last = net.steps[-1]
    graph.nodes[-1].output[0] = "scores.codes"
    graph.node("DequantizeLinear", ["scores.codes", *graph.tensors[last.name].names()[1:]], "scores")
    outputs = [batch, len(last.scale), 1, 1]
    proto = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, net.size, net.size, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model: bytes = helper.make_model(proto, opset_imports=opsets, ir_version=8).SerializeToString()
    return model
