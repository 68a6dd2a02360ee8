"""ONNX Runtime's contestant: the network of quantized operators, as ONNX Runtime's own quantizer writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from layers_onnxruntime import optimized_session
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_graph import IMAGE, Graph, Node, Range
from networks_names import ONNXRUNTIME_INT8

try:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError('measuring ONNX Runtime needs more packages: pip install "bitorch-lowbit[bench]"') from error

DOMAIN = "com.microsoft"
#: Clamped at zero by the codes' range themselves, behind what gives codes.
CLAMPS = ("relu", "relu6")


def contestants(graph: Graph, threads: int) -> list[Contestant]:
    """
    Raises:
        RuntimeError: the scores are wrong, or a convolution did not run in int8.
    """
    session, nodes = optimized_session(_Model(graph).bytes(), threads)
    if any("Conv" in node and node != "QLinearConv" for node in nodes):
        raise RuntimeError(f"ONNX Runtime ran {nodes}")
    inputs = onnxruntime.OrtValue.ortvalue_from_numpy(graph.images)
    binding = session.io_binding()
    binding.bind_ortvalue_input("image.nhwc", inputs)
    binding.bind_output("scores")
    session.run_with_iobinding(binding)
    graph.check(ONNXRUNTIME_INT8, binding.copy_outputs_to_cpu()[0])
    return [Called(ONNXRUNTIME_INT8, "QLinearConv", lambda: session.run_with_iobinding(binding), NETWORK_SECONDS)]


@dataclass(frozen=True)
class _Tensor:
    """Codes: their name, and what they stand for."""

    name: str
    range: Range

    def scale_and_zero(self) -> list[str]:
        return [f"{self.name}.scale", f"{self.name}.zero"]

    def names(self) -> list[str]:
        return [self.name, *self.scale_and_zero()]


@dataclass
class _Model:
    """uint8 NHWC to float32 scores."""

    graph: Graph
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    tensors: dict[str, _Tensor] = field(default_factory=dict)

    def bytes(self) -> bytes:
        batch, *shape = self.graph.images.shape
        self.node("Transpose", ["image.nhwc"], self.define(IMAGE, Range(False, 1.0)).name, perm=[0, 3, 1, 2])
        for node in self.graph.nodes:
            self.step(node)
        last = self.tensors[self.graph.nodes[-1].name]
        self.node("DequantizeLinear", last.names(), "scores.real")
        self.node("Flatten", ["scores.real"], "scores")
        proto = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("image.nhwc", TensorProto.UINT8, [batch, *shape])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, list(self.graph.scores.shape))],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        model: bytes = helper.make_model(proto, opset_imports=opsets, ir_version=8).SerializeToString()
        return model

    def define(self, name: str, range_: Range) -> _Tensor:
        tensor = self.tensors[name] = _Tensor(name, range_)
        zero = np.uint8(range_.zero).reshape(())
        self.constants |= {f"{name}.scale": np.float32(range_.scale).reshape(()), f"{name}.zero": zero}
        return tensor

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))

    def result(self, node: Node) -> _Tensor:
        """The codes that a node gives: those of the clamp that alone reads it, which is then done."""
        function = self.graph.function_of(node)
        clamp = function is not None and function.kind in CLAMPS
        name = function.name if function is not None and clamp else node.name
        tensor = self.define(name, self.graph.ranges[name])
        self.tensors[node.name] = tensor
        return tensor

    def step(self, node: Node) -> None:
        if node.name in self.tensors:  # a clamp that is done
            return
        inputs = [self.tensors[name] for name in node.inputs]
        x = inputs[0]
        if node.kind in CLAMPS:
            raise RuntimeError(f"{node.name}: a clamp that nothing gives codes to")
        match node.kind:
            case "conv" | "linear":
                self.products(node, x)
            case "affine":
                self.affine(node, x)
            case "silu":
                gate = self.define(f"{node.name}.gate", Range(False, 1.0))
                self.node("QLinearSigmoid", [*x.names(), *gate.scale_and_zero()], gate.name, domain=DOMAIN)
                self.binary("QLinearMul", x, gate, self.result(node))
            case "sigmoid":
                y = self.result(node)
                self.node("QLinearSigmoid", [*x.names(), *y.scale_and_zero()], y.name, domain=DOMAIN)
            case "add" | "mul":
                self.binary("QLinearAdd" if node.kind == "add" else "QLinearMul", x, inputs[1], self.result(node))
            case "concat" | "max_pool" | "shuffle" | "slice":
                self.passing(node, inputs)
            case "avg_pool" | "mean":
                self.average(node, x)

    def binary(self, op: str, a: _Tensor, b: _Tensor, y: _Tensor) -> None:
        self.node(op, [*a.names(), *b.names(), *y.scale_and_zero()], y.name, domain=DOMAIN)

    def products(self, node: Node, x: _Tensor) -> None:
        codes, scale = node.int8_weight()
        sums = np.rint(node.bias.astype(np.float64) / (x.range.scale * scale))
        bias = sums.clip(-(2**31), 2**31 - 1).astype(np.int32)  # the bounds matter where all weights are zero
        weight = f"{node.name}.weight"
        self.constants |= {
            weight: codes,
            f"{weight}.scale": scale,
            f"{weight}.zero": np.zeros(len(scale), np.int8),
            f"{node.name}.bias": bias,
        }
        weights = [weight, f"{weight}.scale", f"{weight}.zero"]
        y = self.result(node)
        if node.kind == "linear":
            self.node("Flatten", [x.name], f"{node.name}.flat")
            inputs = [f"{node.name}.flat", *x.scale_and_zero(), *weights, f"{node.name}.bias", *y.scale_and_zero()]
            return self.node("QGemm", inputs, y.name, domain=DOMAIN, transB=1)
        inputs = [*x.names(), *weights, *y.scale_and_zero(), f"{node.name}.bias"]
        self.node("QLinearConv", inputs, y.name, group=node.groups, **_window(node))

    def affine(self, node: Node, x: _Tensor) -> None:
        """In float32: ONNX Runtime has no quantized BatchNorm."""
        name, y = node.name, self.result(node)
        self.constants |= {
            f"{name}.slope": node.weight,
            f"{name}.shift": node.bias,
            f"{name}.mean": np.zeros_like(node.bias),
            f"{name}.variance": np.ones_like(node.bias),
        }
        numbers = [f"{name}.{each}" for each in ("slope", "shift", "mean", "variance")]
        self.node("DequantizeLinear", x.names(), f"{name}.real")
        self.node("BatchNormalization", [f"{name}.real", *numbers], f"{name}.norm", epsilon=0.0)
        real = f"{name}.norm"
        if y.name != name:
            self.node("Relu", [real], f"{name}.relu")
            real = f"{name}.relu"
        self.node("QuantizeLinear", [real, *y.scale_and_zero()], y.name)

    def passing(self, node: Node, inputs: list[_Tensor]) -> None:
        """Codes stay what they are."""
        x, y = inputs[0], self.define(node.name, self.graph.ranges[node.name])
        match node.kind:
            case "concat":
                self.node("Concat", [each.name for each in inputs], y.name, axis=1)
            case "max_pool":
                self.node("MaxPool", [x.name], y.name, ceil_mode=int(node.ceil), **_window(node))
            case "shuffle":
                self.shuffle(node, x, y)
            case _:
                first, last, axis = ends = [f"{y.name}.{key}" for key in ("first", "last", "axis")]
                values = zip(ends, (*node.channels, 1), strict=True)
                self.constants |= {name: np.array([value]) for name, value in values}
                self.node("Slice", [x.name, first, last, axis], y.name)

    def shuffle(self, node: Node, x: _Tensor, y: _Tensor) -> None:
        batch, channels, *pixels = self.graph.shapes[node.name]
        apart, again = f"{y.name}.apart", f"{y.name}.again"
        self.constants |= {
            apart: np.array([batch, node.groups, channels // node.groups, *pixels]),
            again: np.array([batch, channels, *pixels]),
        }
        self.node("Reshape", [x.name, apart], f"{y.name}.split")
        self.node("Transpose", [f"{y.name}.split"], f"{y.name}.turned", perm=[0, 2, 1, 3, 4])
        self.node("Reshape", [f"{y.name}.turned", again], y.name)

    def average(self, node: Node, x: _Tensor) -> None:
        y = self.result(node)
        inputs = [*x.names(), *y.scale_and_zero()]
        if node.kind == "mean":
            self.node("QLinearGlobalAveragePool", inputs, y.name, domain=DOMAIN, channels_last=0)
        else:
            self.node("QLinearAveragePool", inputs, y.name, domain=DOMAIN, **_window(node))


def _window(node: Node) -> dict[str, list[int]]:
    return {"kernel_shape": [node.window] * 2, "strides": [node.stride] * 2, "pads": [node.padding] * 4}
