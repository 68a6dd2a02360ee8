"""The graph of a float network, from its export by PyTorch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from networks_graph import IMAGE, Graph, Kind, Node

SAME: dict[str, Kind] = {
    "relu": "relu",
    "silu": "silu",
    "sigmoid": "sigmoid",
    "add": "add",
    "mul": "mul",
}
"""Operations of PyTorch that take nothing but tensors here."""
NOTHING = ("dropout", "contiguous", "transpose", "chunk", "flatten")
"""What does nothing while a network infers, or is read together with what follows it. Linear layers flatten."""


def captured(model: nn.Module, images: npt.NDArray[np.uint8]) -> Graph:
    """
    Args:
        model: float32, in eval mode, of convolutions with square windows.
        images: [batch, H, W, 3].

    Raises:
        ValueError: the model has an operation that is not known here.
    """
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    program = torch.export.export(model, (x,))
    signature = program.graph_signature
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {name: program.state_dict[path] for name, path in paths.items()}
    ranges = _Ranges(program.graph_module)
    with torch.inference_mode():
        placeholders = [node.name for node in program.graph.nodes if node.op == "placeholder"]
        (scores,) = ranges.run(*(constants.get(name, x) for name in placeholders))
    reader = _Reader(constants)
    for node in program.graph.nodes:
        reader.read(node)
    seen = {IMAGE: (0.0, 1.0)} | {node.name: ranges.seen[node.name] for node in reader.nodes}
    return clamped_first(Graph(tuple(reader.nodes), images, scores.double().numpy(), reader.shapes, seen))


def scored(model: nn.Module, images: npt.NDArray[np.uint8]) -> Graph:
    """A graph without nodes, for engines that read the model themselves: images and scores.

    Args:
        model: float32, in eval mode.
        images: [batch, H, W, 3].
    """
    with torch.inference_mode():
        scores = model(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    return Graph((), images, scores.double().numpy(), {}, {})


def clamped_first(graph: Graph) -> Graph:
    """The same network with each ReLU that alone reads a max-pool before it, where it runs with a convolution."""
    nodes, seen, shapes = list(graph.nodes), dict(graph.seen), dict(graph.shapes)
    for i, relu in enumerate(graph.nodes):
        pool = graph.by_name.get(relu.inputs[0])
        if relu.kind != "relu" or pool is None or pool.kind != "max_pool" or len(graph.readers[pool.name]) > 1:
            continue
        nodes[graph.nodes.index(pool)] = Node("relu", pool.name, pool.inputs)
        nodes[i] = dataclasses.replace(pool, name=relu.name, inputs=(pool.name,))
        seen[pool.name], shapes[pool.name] = seen[relu.name], shapes[pool.inputs[0]]
    return dataclasses.replace(graph, nodes=tuple(nodes), seen=seen, shapes=shapes)


class _Ranges(fx.Interpreter):
    """Keeps the smallest and the largest number of each tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, tuple[float, float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.is_floating_point():
            self.seen[n.name] = (float(result.min()), float(result.max()))
        return result


class _Reader:
    """Reads one node of the export after the other."""

    def __init__(self, constants: dict[str, Tensor]) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._constants = constants
        self._names: dict[str, str] = {}  # of the graph's tensor that a node of the export gives

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._names[node.name] = IMAGE
        if node.op != "call_function":
            return
        inputs = tuple(self._names[each.name] for each in node.all_input_nodes if each.name not in self._constants)
        found = self._node(node, inputs)
        if found is None:
            self._names[node.name] = inputs[0]
        else:
            self._names[node.name] = node.name
            self.shapes[node.name] = tuple(node.meta["val"].shape)
            self.nodes.append(found)

    def _node(self, node: fx.Node, inputs: tuple[str, ...]) -> Node | None:
        """What the graph gets, if anything."""
        operation = str(getattr(node.target, "__name__", node.target)).split(".")[0].rstrip("_")
        name, shape = node.name, _shape(node)
        before = _shape(node.all_input_nodes[0])
        if operation in SAME:
            return Node(SAME[operation], name, inputs)
        match operation:
            case "conv2d" | "linear":
                return self._products(node, inputs)
            case "batch_norm":
                return self._norm(node, inputs)
            case "max_pool2d" | "avg_pool2d":
                return _pool(node, inputs)
            case "adaptive_avg_pool2d" | "mean":
                return None if shape == before else Node("mean", name, inputs)
            case "hardtanh" if list(node.args[1:]) == [0.0, 6.0]:
                return Node("relu6", name, inputs)
            case "cat":
                return Node("concat", name, inputs)
            case "view":  # channels [g, n/g], which are then transposed, and seen as n again
                return None if len(shape) == 5 else Node("shuffle", name, inputs, groups=before[2])
            case "getitem":
                return _slice(node, inputs)
            case _ if operation in NOTHING:
                return None
        raise ValueError(f"{node.target} of {name}: no int8 engine here knows it")

    def _products(self, node: fx.Node, inputs: tuple[str, ...]) -> Node:
        """A convolution or a linear layer."""
        arguments = _arguments(node)
        weight = self._array(arguments["weight"])
        bias = arguments["bias"]
        numbers = np.zeros(len(weight), np.float32) if bias is None else self._array(bias)
        if "groups" not in arguments:
            return Node("linear", node.name, inputs, weight=weight, bias=numbers)
        return Node(
            "conv",
            node.name,
            inputs,
            window=weight.shape[2],
            stride=arguments["stride"][0],
            padding=arguments["padding"][0],
            groups=arguments["groups"],
            weight=weight,
            bias=numbers,
        )

    def _norm(self, node: fx.Node, inputs: tuple[str, ...]) -> Node:
        """Folded into the convolution before it, where there is one that nothing else reads."""
        arguments = _arguments(node)
        slope, shift, mean, variance = (
            self._array(arguments[key]).astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
        )
        slope = slope / np.sqrt(variance + arguments["eps"])
        shift = shift - mean * slope
        before = arguments["input"]
        if "conv2d" not in before.name or len(before.users) > 1:
            return Node("affine", node.name, inputs, weight=slope.astype(np.float32), bias=shift.astype(np.float32))
        conv = self.nodes.pop()
        return dataclasses.replace(
            conv,
            name=node.name,
            weight=(conv.weight * slope[:, None, None, None]).astype(np.float32),
            bias=(conv.bias * slope + shift).astype(np.float32),
        )

    def _array(self, node: fx.Node) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = self._constants[node.name].detach().float().numpy()
        return array


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Of what a node of the export gives; of several tensors none."""
    return tuple(getattr(node.meta["val"], "shape", ()))


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Of a call, by their names, those left out too."""
    assert isinstance(node.target, torch._ops.OpOverload)
    taken = node.target._schema.arguments
    names = [argument.name for argument in taken]
    defaults = {argument.name: argument.default_value for argument in taken}
    return defaults | dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _pool(node: fx.Node, inputs: tuple[str, ...]) -> Node:
    arguments = _arguments(node)
    kind: Kind = "max_pool" if node.name.startswith("max") else "avg_pool"
    size, stride, padding = (list(arguments[key]) for key in ("kernel_size", "stride", "padding"))
    ceil = arguments["ceil_mode"]
    window = size[0]
    return Node(kind, node.name, inputs, window, (stride or size)[0], (padding or [0])[0], ceil)


def _slice(node: fx.Node, inputs: tuple[str, ...]) -> Node:
    """One of the equal pieces that `chunk` makes of the channels."""
    width = node.meta["val"].shape[1]
    first = node.args[1] * width
    return Node("slice", node.name, inputs, channels=(first, first + width))
