"""Where channels lie in memory: behind their batch, as ONNX has them, or last, as matrix products leave them.

A product that is gathered leaves its channels last, and a Transpose gives them the place that ONNX wants. Behind it
ONNX Runtime moves that Transpose through what is computed number by number, until it meets one that goes back, and both
vanish. It stops where the other operand has no Transpose, as at a residual that a pool has made. There the pair is
computed with its channels last, and so is all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..graph.graph import Graph, Node
from .float_kinds import write_float
from .low_bit_sums import Product, is_gathered
from .writer import Writer

#: Kinds of two tensors.
_PAIRS = frozenset({"add", "sub", "mul", "div", "minimum", "maximum"})


def with_channels_last(graph: Graph) -> set[str]:
    """The names of nodes whose channels lie last: gathered sums, and what is computed from them number by number."""
    last: set[str] = set()
    for node in graph:
        if node.kind == "product":
            is_last = is_gathered(graph, Product.of(node))
        else:
            is_by_numbers = node.row.elementwise or (node.kind in _PAIRS and _is_of_one_shape(graph, node))
            is_last = is_by_numbers and any(name in last for name in node.inputs)
        if is_last:
            last.add(node.name)
    return last


def meet_in_two_orders(graph: Graph, node: Node, last: set[str]) -> bool:
    """Whether a node is a pair of tensors of which only one has its channels last."""
    return node.name in last and len({name in last for name in node.inputs}) == 2


def with_both_last(writer: Writer, node: Node, values: Sequence[str]) -> str:
    """Write such a node, of values [batch, C, *rows], of which both get their channels last."""
    axes, shape = len(node.shape) + 1, (*node.shape[1:], node.shape[0])
    inner = replace(node, name=f"{node.name}/last", shape=shape)
    moved = [channels_last(writer, one, axes) for one in values]
    return channels_second(writer, write_float(writer, inner, moved, [shape, shape]), axes, node.name)


def channels_last(writer: Writer, value: str, axes: int) -> str:
    """Put the channels of a value [batch, C, *rows] of so many axes, the batch counted, behind the rows."""
    return value if axes == 2 else writer.node("Transpose", [value], perm=[0, *range(2, axes), 1])


def channels_second(writer: Writer, value: str, axes: int, name: str) -> str:
    """Put channels that are last to their place in ONNX; `name`: of the result."""
    return writer.node("Transpose", [value], name, perm=[0, axes - 1, *range(1, axes - 1)])


def _is_of_one_shape(graph: Graph, node: Node) -> bool:
    return all(graph[name].shape == node.shape for name in node.inputs)
