"""Dialect `integer`: stock operators, small files, and every integer that of the packed net."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..capture.problems import Problem
from ..graph.graph import Graph, Node
from ..runtime.fuse_thresholds import reach
from .code_steps import coded, compared, looked_up, on_float_line, scaled, values
from .convs_on_lines import ConvOnLine, codes_on_line, conv_on_line, staircases_of
from .dialect import Dialect, cannot_say
from .float_kinds import what_is_missing, write_float
from .integer_passes import PASSES
from .layouts import meet_in_two_orders, with_both_last, with_channels_last
from .lines import proved_float_lines
from .low_bit_sums import Product, exact_sum
from .require_onnx import onnx
from .rounded_once import behind_sums, is_safe_in_float64, write_rounded_once
from .sums_of_groups import sum_of_groups, why_not_in_groups
from .tables_of_sums import every_sum, is_large, looked_up_in, tabled
from .writer import Writer

_UINT8, _FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
#: Kinds that pass codes on as they are.
_MOVES = frozenset({"max_pool", "concat", "flatten", "select", "take", "reshape", "permute"})
#: And those that are computed on codes as floats, which are codes again.
_AS_FLOATS = frozenset({"adaptive_max_pool", "extreme", "nearest", "pad", "identity"})
_OWN = frozenset(
    {"input", "codes", "thresholds", "values", "lookup", "product", "group_product", "code_matmul", "scale"}
)


def refusals(graph: Graph, opset: int) -> list[Problem]:
    """Return what has no stock operator, or would not be exact."""
    problems = []
    for node in graph:
        why = _why_not(node)
        if why is not None:
            problems.append(cannot_say("integer", node, why))
    return problems


def _why_not(node: Node) -> str | None:
    if node.kind == "product":
        product = Product.of(node)
        is_in_floats = product.is_transposed or product.groups > 1
        if is_in_floats and not product.fits_float:
            return f"its sums reach {reach(node)[1]:,}, and float32 has not every integer beyond 2^24"
        return None
    if node.kind == "group_product":
        return why_not_in_groups(node)
    return None if node.kind in _OWN else what_is_missing(node)


def write(graph: Graph, writer: Writer, inputs: dict[str, str]) -> dict[str, str]:
    """Write all nodes, see `Dialect.write`."""
    writing = _Writing(graph, writer, inputs)
    for node in graph:
        if node.kind != "input":
            with writer.inside(node.name):
                writing.add(node)
    return writing.values


def folded(conv: Node, norm: Node) -> Node:
    """A float convolution and the batch normalisation behind it as one convolution."""
    multiply, offset = (norm.settings[key].double() for key in ("multiply", "offset"))
    weight, bias = conv.settings["weight"].detach().double(), conv.settings["bias"]
    moved = offset if bias is None else offset + bias.detach().double() * multiply
    scaled = weight * multiply.reshape(-1, *[1] * (weight.dim() - 1))
    return replace(conv, name=norm.name, settings={**conv.settings, "weight": scaled.float(), "bias": moved.float()})


class _Writing:
    def __init__(self, graph: Graph, writer: Writer, inputs: dict[str, str]) -> None:
        self.graph, self.writer = graph, writer
        self.values = dict(inputs)
        self.lines: dict[str, ConvOnLine] = {}  # by the name of the product
        self.readers = graph.readers()
        self.inexact = behind_sums(graph)
        self.last = with_channels_last(graph)
        self.in_tables: set[str] = set()  # what is written already, with the product

    def add(self, node: Node) -> None:
        """Write a node, unless it is a sum that only leads to thresholds on a line."""
        if node.kind == "product":
            line = conv_on_line(self.graph, self.readers[node.name], node)
            if line is not None:
                self.lines[node.name] = line
                return
        if self._folds(node) or node.name in self.in_tables:
            return
        self.values[node.name] = self._written(node)
        steps = tabled(self.graph, self.readers, node)
        if steps:
            self._write_table(node, steps)

    def _write_table(self, product: Node, steps: list[Node]) -> None:
        """Write the steps behind a product as a table of all its sums."""
        sums = Product.of(product)
        table = every_sum(self.writer, sums)
        for step in steps:
            inner = replace(step, name=f"{step.name}/every", shape=step.shape[:1])
            with self.writer.inside(step.name):
                table = self._step(inner, step, table)
        self.values[steps[-1].name] = looked_up_in(
            self.writer, table, steps[-1], self.values[product.name], by_channel=is_large(sums)
        )
        self.in_tables.update(step.name for step in steps)

    def _step(self, inner: Node, node: Node, x: str) -> str:
        """One step of a table."""
        if node.kind == "scale":
            return scaled(self.writer, inner, x, is_normed=False)
        if node.kind == "batch_norm" and not is_safe_in_float64(self.graph, node, self.inexact):
            return write_rounded_once(self.writer, inner, x)
        return write_float(self.writer, inner, [x], [inner.shape])

    def _written(self, node: Node) -> str:
        writer = self.writer
        if node.kind == "thresholds" and node.inputs[0] in self.lines:
            line = self.lines[node.inputs[0]]
            return codes_on_line(writer, node, line, self.values[line.product.node.inputs[0]])
        if node.kind == "batch_norm" and self._folds(self.graph[node.inputs[0]]):
            conv = folded(self.graph[node.inputs[0]], node)
            return write_float(self.writer, conv, [self.values[n] for n in conv.inputs], [self._shape(conv.inputs[0])])
        x = [self.values[name] for name in node.inputs]
        if node.kind == "product":
            return exact_sum(writer, self.graph, Product.of(node), x[0])
        if node.kind == "group_product":
            return sum_of_groups(writer, node, self._shape(node.inputs[0])[1:], x[0])
        if node.kind == "code_matmul":
            return self._code_matmul(node, x)
        if node.kind == "scale":
            readers = {reader.kind for reader in self.readers[node.name]}
            is_normed = node.name not in self.graph.outputs and readers == {"batch_norm"}
            return scaled(writer, node, x[0], is_normed=is_normed)
        if node.kind == "thresholds":
            return self._thresholds(node, x[0])
        if node.kind == "codes":
            return coded(writer, node, x[0])
        if node.kind == "values":
            return values(writer, node, x[0])
        if node.kind == "lookup":
            reads_sign = self._is_sign(node.inputs[0])
            return looked_up(writer, node, x[0], node.settings["table"], is_code=True, reads_sign=reads_sign)
        return self._other(node, x)

    def _other(self, node: Node, x: list[str]) -> str:
        """A float kind, or a move of codes."""
        shapes = [self.graph[name].shape for name in node.inputs]
        if node.kind == "batch_norm" and not is_safe_in_float64(self.graph, node, self.inexact):
            return write_rounded_once(self.writer, node, x[0])
        is_of_codes = bool(node.inputs) and self._is_code(node.inputs[0])
        if meet_in_two_orders(self.graph, node, self.last):
            return with_both_last(self.writer, node, x)
        if not is_of_codes or (node.kind in _MOVES and not self._is_slow_pool(node)):
            return write_float(self.writer, node, x, shapes)
        numbers = self.writer.node("Cast", x, to=_FLOAT)
        if node.kind == "pad" and self._is_sign(node.inputs[0]):
            node = replace(node, settings={**node.settings, "value": 2 * node.settings["value"]})
        inner = replace(node, name=f"{node.name}/float32")
        return self.writer.node("Cast", [write_float(self.writer, inner, [numbers], shapes)], node.name, to=_UINT8)

    def _folds(self, node: Node) -> bool:
        """Whether a float convolution leads to a batch normalisation only: its last bits are free, so both are one."""
        readers = self.readers[node.name]
        is_only = len(readers) == 1 and node.name not in self.graph.outputs and readers[0].kind == "batch_norm"
        return is_only and node.kind == "conv" and "output_padding" not in node.settings

    def _is_slow_pool(self, node: Node) -> bool:
        """Whether it is a max-pool of codes that no QLinearConv has made, which is slow but in its memory layout."""
        if node.kind != "max_pool":
            return False
        before = self.graph[node.inputs[0]]
        return not any(name in self.lines for name in before.inputs)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.graph[name].shape

    def _thresholds(self, node: Node, x: str) -> str:
        """Codes of sums by a line of float32 where one is proved, else by comparisons, as of floats."""
        if not self._is_sum(node.inputs[0]):
            return compared(self.writer, node, x, np.float32)
        anchor = self.graph[node.inputs[0]]
        if anchor.kind == "product" and node.settings["table"] is None:
            staircases = staircases_of(anchor, node)
            lines = proved_float_lines(staircases)
            if lines is not None:
                return on_float_line(self.writer, node, x, lines, staircases.ends)
        return compared(self.writer, node, x, np.int32)

    def _code_matmul(self, node: Node, x: list[str]) -> str:
        """The exact product of two tensors of codes, int32."""
        writer, settings = self.writer, node.settings
        sides, last = [], len(node.shape)
        for value, transposed in zip(x, settings["transposed"], strict=True):
            axes = [0, *range(2, last + 1), 1]
            if transposed:
                axes[-2:] = axes[:-3:-1]
            sides.append(writer.node("Transpose", [value], perm=axes))
        pairs = zip(settings["signs"], settings["zero_points"], strict=True)
        zeros = [writer.constant("zero", np.uint8(1 if sign else zero)) for sign, zero in pairs]
        product = writer.node("MatMulInteger", [*sides, *zeros])
        return writer.node("Transpose", [product], node.name, perm=[0, last, *range(1, last)])

    def _is_sum(self, name: str) -> bool:
        return self.graph[name].kind in ("product", "code_matmul")

    def _is_sign(self, name: str) -> bool:
        """Whether a node's codes are ±1."""
        node = self.graph[name]
        while "sign" not in node.settings and node.inputs:
            node = self.graph[node.inputs[0]]
        return bool(node.settings.get("sign", False))

    def _is_code(self, name: str) -> bool:
        """Whether a node's value is one of codes: made by a quantizer, pixels, or moved from there."""
        node = self.graph[name]
        while not node.row.makes_codes and node.kind != "input":
            if node.kind not in _MOVES | _AS_FLOATS or not node.inputs:
                return False
            node = self.graph[node.inputs[0]]
        return node.row.makes_codes or bool(node.settings.get("pixels", False))


INTEGER = Dialect(
    "integer",
    "stock operators on integers, every code that of the packed net",
    PASSES,
    opset=21,
    least_opset=21,
    refusals=refusals,
    write=write,
    is_exact=True,
    plus_one=2,
)
