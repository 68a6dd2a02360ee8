"""The last pass: groups of nodes to operations of bitorch_runtime, and the arrays that they use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bitorch_runtime.operations import OPERATIONS

from ..graph.graph import Graph, Node
from ..graph.output_names import OutputNames
from .fuse_stages import AFFINE, Group, group
from .owners import Owners
from .sharing import share_arrays
from .single_operations import (
    as_array,
    code_keys,
    product_keys,
    single_operation,
    table_operation,
    transposed_keys,
    window_keys,
)
from .tensor_names import renamed

Operation = dict[str, Any]
#: Single operations that have numbers of a module.
_WITH_NUMBERS = ("quantize", "constant", "embedding", "linear_weight_only", "linear_groups")
#: Stages of affine operations that have.
_OF_A_LAYER = frozenset({"divide", "times", "plus", "batch_norm"})


@dataclass
class Lowered:
    """Operations and arrays as `bitorch_runtime.Program` takes them.

    Attributes:
        operations, arrays: the program.
        anchors: of each operation, the name of the node that it begins with: D, of a low-bit layer.
        values: of each operation, the node of its float tensor after all stages, whether it leaves or not.
        names: of nodes, the names of their tensors where these have others.
        layers, readers, array_layers: as `Owners` has them; `owners` is all three.
    """

    operations: list[Operation] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    anchors: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    layers: list[str | None] = field(default_factory=list)
    readers: list[str | None] = field(default_factory=list)
    array_layers: dict[str, str] = field(default_factory=dict)

    @property
    def owners(self) -> Owners:
        """Which modules operations and arrays are of."""
        arrays = {name: layer for name, layer in self.array_layers.items() if name in self.arrays}
        return Owners(tuple(self.layers), tuple(self.readers), arrays)

    def tensor(self, node: str) -> str:
        """The tensor of a node."""
        return self.names.get(node, node)


def lower(graph: Graph, names: Sequence[str | None] = (), tied: Mapping[str, str] = MappingProxyType({})) -> Lowered:
    """Write a graph as a program. Tensors keep the names of their nodes, but for outputs with names of their own.

    Args:
        names: of the outputs, all different; None: that of the node. (): all None.
        tied: of modules that hold the weight of another one, the path of that: it is stored once.
    """
    lowering = _Lowering(graph)
    for node in graph.inputs:
        tables = [reader.settings["table"] for reader in lowering.readers[node.name] if reader.kind == "embedding"]
        if tables:
            lowering.emit(_indices(node, min(map(len, tables))), node.name)
        else:
            lowering.emit(_input(node, channels_last=lowering.reads_channels_last(node)), node.name)
    for one in group(graph):
        lowering.add(one)
    lowering.leave(names if names else [None] * len(graph.outputs))
    result = lowering.result
    share_arrays(result.operations, result.arrays, result.array_layers, tied)
    return result


def _input(node: Node, *, channels_last: bool) -> Operation:
    pixels = node.settings["pixels"]
    shape = node.shape if node.shape != () else (1, 1, 1)
    operation: Operation = {
        "op": "input",
        "output": node.name,
        "dtype": "uint8" if pixels else "float32",
        "shape": [shape[-1], *shape[:-1]] if channels_last else list(shape),
        "order": "nhwc" if channels_last else "nchw",
    }
    return operation | {"bits": 8} if pixels else operation


def _indices(node: Node, below: int) -> Operation:
    """The input of indices, as rows of one channel each, whatever the model's axes."""
    return {
        "op": "input",
        "output": node.name,
        "dtype": node.settings["dtype"],
        "below": below,
        "shape": [1, *node.shape],
        "order": "nhwc",
        "array_shape": list(node.shape),
    }


def _is_to_front(node: Node) -> bool:
    """Whether a node brings the last axis in front of all others: what the model has as [batch, *rows, C]."""
    count = len(node.shape)
    return node.kind == "permute" and node.settings["axes"] == (count - 1, *range(count - 1))


def _is_to_back(node: Node) -> bool:
    """Whether a node brings the channels behind all other axes."""
    count = len(node.shape)
    return node.kind == "permute" and node.settings["axes"] == (*range(1, count), 0)


def _is_in_order(node: Node, before: Node) -> bool:
    """Whether a node keeps the order of memory, rows first, which is that of an array with channels first, too."""
    if node.kind == "flatten":
        return before.channels == 1
    return node.kind == "reshape" and (node.channels == 1 or math.prod(node.shape[1:]) == 1)


def _has_table(codes: Node) -> bool:
    """Whether the codes of a node are looked up by the number of thresholds that were reached."""
    return codes.kind == "thresholds" and codes.settings["table"] is not None


def _counted(codes: Node) -> str:
    """The tensor of the codes of a node, or of the number of thresholds that its table is looked up by."""
    return f"{codes.name}/steps" if _has_table(codes) else codes.name


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.result = Lowered()
        self.readers = graph.readers()
        self.same: dict[str, str] = {}  # nodes that move nothing: the tensor that stands for them
        for node in graph.inputs:
            if self.reads_channels_last(node):
                self.same |= {reader.name: node.name for reader in self.readers[node.name]}

    def tensor(self, name: str) -> str:
        """The tensor that holds a node's value."""
        return self.same.get(name, name)

    def reads_channels_last(self, node: Node) -> bool:
        """Whether an input's array is read with its last axis as channels, by all that read it."""
        readers = self.readers[node.name]
        return node.name not in self.graph.outputs and len(readers) > 0 and all(map(_is_to_front, readers))

    def leaves_channels_last(self, node: Node) -> bool:
        """Whether a node only says which shape an output's array has, whose numbers are in the order of memory."""
        readers = self.readers[node.name]
        if len(readers) == 0:
            return _is_to_back(node) or (len(node.inputs) > 0 and _is_in_order(node, self.graph[node.inputs[0]]))
        is_shown = node.kind == "reshape" and node.name not in self.graph.outputs
        return is_shown and all(map(_is_to_back, readers)) and all(map(self.leaves_channels_last, readers))

    def emit(
        self,
        operation: Operation,
        anchor: str,
        value: str | None = None,
        *,
        layer: Node | None = None,
        codes: Node | None = None,
    ) -> None:
        """Add an operation.

        Args:
            anchor, value: see `Lowered`.
            layer: a node of the module whose numbers it computes with, see `Owners`.
            codes: the node whose codes it makes.
        """
        self.result.operations.append(operation)
        self.result.anchors.append(anchor)
        self.result.values.append(anchor if value is None else value)
        self.result.layers.append(None if layer is None else layer.module)
        self.result.readers.append(None if codes is None else codes.module)

    def array(self, node: Node, key: str, values: NDArray[Any]) -> str:
        """Keep an array of a node under a name of its own."""
        name = f"{node.name}.{key}"
        self.result.arrays[name] = values
        self.result.array_layers[name] = node.module
        return name

    def floats(self, node: Node, key: str, values: Tensor) -> str:
        return self.array(node, key, as_array(values.to(torch.float32)))

    def leave(self, wanted: Sequence[str | None]) -> None:
        """Add the outputs, and give them their names."""
        names = OutputNames(self.graph, wanted)
        tensors: list[str] = []
        for node, name in zip(self.graph.outputs, wanted, strict=True):
            tensor = self.tensor(node)
            if names.must_copy(tensor, name):
                copied = f"{node}/output {len(tensors)}"
                self.emit(self._again(tensor) | {"output": copied}, node)
                names.leave(copied, name, copy_of=tensor)
                tensor = copied
            else:
                names.leave(tensor, name)
            tensors.append(tensor)
        for node, tensor in zip(self.graph.outputs, tensors, strict=True):
            order = "nhwc" if self.leaves_channels_last(self.graph[node]) else "nchw"
            self.emit({"op": "output", "input": tensor, "order": order}, node)
        names.settle()
        self.result.operations = [renamed(operation, names.names) for operation in self.result.operations]
        self.result.names = names.names

    def _again(self, tensor: str) -> Operation:
        """Have a tensor once more. Nothing moves the int32 of a place, which is looked for a second time."""
        if self.graph[tensor].kind != "place":
            return {"op": "concat", "inputs": [tensor]}
        return next(operation for operation in self.result.operations if operation.get("output") == tensor)

    def add(self, one: Group) -> None:
        node = one.anchor
        if node.row.weighs:
            self._convolution(one)
        elif node.kind == "code_matmul":
            self._code_matmul(one)
        elif node.kind in AFFINE:
            self._affine(one)
        elif node.kind == "add":
            inputs = [self.tensor(name) for name in node.inputs]
            operation = {"op": "add", "inputs": inputs, **({"relu": True} if one.stages else {})}
            self.emit(operation | self._leaving(one), node.name, one.value, codes=one.codes)
        elif node.kind == "normalize":
            self._normalize(one)
        elif node.name in self.same:
            return
        elif node.kind == "identity" or self.leaves_channels_last(node) or self._has_one_row(node):
            self.same[node.name] = self.tensor(node.inputs[0])
        else:
            op, keys = single_operation(self, node)
            makes_codes = node if op == "quantize" else None
            layer = node if op in _WITH_NUMBERS or "slope" in keys else None
            operation = {"op": op, **self._reads(op, node), "output": node.name, **keys}
            self.emit(operation, node.name, layer=layer, codes=makes_codes)

    def _normalize(self, one: Group) -> None:
        settings = one.anchor.settings
        operation: Operation = {"op": "normalize", "input": self.tensor(one.anchor.inputs[0])}
        operation |= {key: settings[key] for key in ("by", "rows", "groups", "eps")}
        for key in ("weight", "bias"):
            if settings[key] is not None:
                operation[key] = self.floats(one.anchor, key, settings[key])
        self.emit(operation | self._leaving(one), one.anchor.name, one.value, layer=one.anchor, codes=one.codes)

    def _reads(self, op: str, node: Node) -> Operation:
        """The keys that name the tensors which an operation reads."""
        inputs = [self.tensor(name) for name in node.inputs]
        reads = OPERATIONS[op].reads
        if "inputs" not in reads:
            return dict(zip(reads, inputs, strict=False))
        others = reads[1:]
        count = len(inputs) - len(others)
        return {"inputs": inputs[:count], **dict(zip(others, inputs[count:], strict=True))}

    def _has_one_row(self, node: Node) -> bool:
        """Whether a node flattens what has one row only."""
        return node.kind == "flatten" and math.prod(self.graph[node.inputs[0]].shape[1:]) == 1

    def _code_matmul(self, one: Group) -> None:
        node, scale = one.anchor, one.stage("scale")
        operation: Operation = {"op": "matmul_codes", "inputs": [self.tensor(name) for name in node.inputs]}
        keys = ("transposed", "zero_points", "signs")
        operation |= {key: list(node.settings[key]) for key in keys if any(node.settings[key])}
        if scale is None:
            operation["int32"] = node.name
        else:
            operation |= {"float32": one.value, "scale": float(scale.settings["scale"])}
        self.emit(operation, node.name, one.value)

    def _convolution(self, one: Group) -> None:
        node = one.anchor
        channels = node.shape[0]
        operation: Operation = {"op": self._sum_name(node), "input": self.tensor(node.inputs[0])}
        operation |= self._weight(node)
        if "kernel_size" in node.settings:
            window = transposed_keys(node) if "output_padding" in node.settings else window_keys(node)
            operation |= window | {"groups": node.settings["groups"]}
        scale, plus = one.stage("scale"), one.stage("plus")
        bias = plus.settings["constant"] if plus is not None else node.settings.get("bias")
        if scale is not None or bias is not None:
            factor = torch.ones(1) if scale is None else scale.settings["scale"]
            operation["multiply"] = self.floats(node, "multiply", factor.expand(channels))
            offset = torch.zeros(channels) if bias is None else bias
            operation["offset"] = self.floats(node, "offset", offset.expand(channels))
        operation |= self._norm(one) | self._residual(one)
        if one.stage("relu") is not None:
            operation["relu"] = True
        self.emit(operation | self._leaving(one), node.name, one.value, layer=node, codes=one.codes)
        if one.codes is not None and _has_table(one.codes):
            counted, codes = _counted(one.codes), one.codes
            _, keys = table_operation(self, codes)
            self.emit({"op": "lookup", "input": counted, "output": codes.name, **keys}, codes.name, codes=codes)

    @staticmethod
    def _sum_name(node: Node) -> str:
        shape = "conv2d" if "kernel_size" in node.settings else "linear"
        shape = "conv_transpose" if "output_padding" in node.settings else shape
        return shape if node.kind == "product" else f"{shape}_float"

    def _weight(self, node: Node) -> Operation:
        if node.kind != "product":
            weight = node.settings["weight"].detach()  # [N, C, *kernel], [N, F]
            return {"weight": self.floats(node, "weight", weight.movedim(1, -1).contiguous())}
        return product_keys(self, node)

    def _norm(self, one: Group) -> Operation:
        norm = one.stage("batch_norm") if one.anchor.kind != "batch_norm" else one.anchor
        if norm is None:
            return {}
        return {
            "norm_multiply": self.floats(norm, "multiply", norm.settings["multiply"]),
            "norm_offset": self.floats(norm, "offset", norm.settings["offset"]),
        }

    def _residual(self, one: Group) -> Operation:
        add = one.stage("add")
        if add is None:
            return {}
        inner = {node.name for node in one.nodes}
        (other,) = (name for name in add.inputs if name not in inner)
        return {"residual": self.tensor(other)}

    def _affine(self, one: Group) -> None:
        steps = {node.kind: node for node in (one.anchor, *one.stages)}
        channels = one.anchor.channels
        operation: Operation = {"op": "affine", "input": self.tensor(one.anchor.inputs[0])}
        if "divide" in steps:
            constant = steps["divide"].settings["constant"].expand(channels)
            operation["divide"] = self.floats(steps["divide"], "constant", constant)
        if "times" in steps or "plus" in steps:
            times = steps["times"].settings["constant"] if "times" in steps else torch.ones(1)
            plus = steps["plus"].settings["constant"] if "plus" in steps else torch.zeros(1)
            operation["multiply"] = self.floats(one.anchor, "multiply", times.expand(channels))
            operation["offset"] = self.floats(one.anchor, "plus", plus.expand(channels))
        operation |= self._norm(one) | self._residual(one) | self._limits(steps)
        operation |= self._leaving(one)
        layer = steps.get("batch_norm", one.anchor) if _OF_A_LAYER & steps.keys() else None
        if layer is None and "thresholds" in operation:
            layer = one.codes
        self.emit(operation, one.anchor.name, one.value, layer=layer, codes=one.codes)

    @staticmethod
    def _limits(steps: Mapping[str, Node]) -> Operation:
        if "relu" in steps:
            return {"low": 0.0}
        clamp = steps["clamp"].settings if "clamp" in steps else {}
        limits = {key: float(clamp[key]) for key in ("low", "high") if clamp.get(key) is not None}
        if len(limits) == 2:
            limits["low"] = min(limits["low"], limits["high"])  # PyTorch's upper bound wins over a larger lower one
        return limits

    def _leaving(self, one: Group) -> Operation:
        """The keys that say which tensors leave an operation."""
        leaving: Operation = {"float32": one.value} if one.keeps_value else {}
        if one.codes is not None:
            leaving |= {"codes": _counted(one.codes), **code_keys(self, one.codes)}
        return leaving
