"""What is computed of a sum number by number, as a table of every sum there can be.

Scales and batch normalisation cost several passes over memory, in float64. Where sums are few, as of layers of few bits
and few inputs, the same steps give a table of them, [sums, C], which ONNX Runtime computes once, when it loads the
file; then one look-up stands for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..graph.graph import Graph, Node
from .layouts import channels_last, channels_second
from .low_bit_sums import Product, is_gathered
from .writer import Writer

#: Numbers in a table, and how many for each that is looked up: more leave the caches, and take longer than the steps.
_MOST, _MOST_FOR_EACH = 2**21, 12
#: Numbers of a table that the caches near a core hold, as far as they are read.
_NEAR = 2**19


def tabled(graph: Graph, readers: Mapping[str, Sequence[Node]], node: Node) -> list[Node]:
    """Return the steps behind a product that a table can stand for, in their order; [] where none is worth it."""
    if node.kind != "product" or not is_gathered(graph, Product.of(node)):
        return []
    low, high = Product.of(node).ends
    numbers = (high - low + 1) * node.channels
    if numbers > min(_MOST, _MOST_FOR_EACH * math.prod(node.shape)):
        return []
    steps: list[Node] = []
    at = node
    while at.name not in graph.outputs and len(readers[at.name]) == 1:
        at = readers[at.name][0]
        if not at.row.elementwise or not at.row.exact:
            break
        steps.append(at)
    return steps if any(step.kind == "batch_norm" for step in steps) else []


def every_sum(writer: Writer, product: Product) -> str:
    """Return every integer that a sum can be, int32 [sums, 1]: 0 and up, then those below 0, as indices count."""
    low, high = product.ends

    def numbers(start: int, end: int) -> str:
        ends = [writer.constant("number", np.int32(one)) for one in (start, end, 1)]
        return writer.node("Range", ends)

    sums = writer.node("Concat", [numbers(0, high + 1), numbers(low, 0)], axis=0)
    return writer.node("Unsqueeze", [sums, writer.constant("axis", np.array([1], np.int64))])


def looked_up_in(writer: Writer, table: str, node: Node, sums: str, *, by_channel: bool) -> str:
    """Write a node as what a table, [sums, C], has for sums [batch, C, *rows].

    Args:
        by_channel: one channel after the other, see `is_large`.
    """
    axes, (channels, *rows) = len(node.shape) + 1, node.shape
    shapes = [writer.constant("shape", np.array(one, np.int64)) for one in ([-1, channels], [-1, *rows, channels])]
    places = writer.node("Reshape", [channels_last(writer, sums, axes), shapes[0]])
    if by_channel:
        turned = [writer.node("Transpose", [one], perm=[1, 0]) for one in (table, places)]
        found = writer.node("Transpose", [writer.node("GatherElements", turned, axis=1)], perm=[1, 0])
    else:
        found = writer.node("GatherElements", [table, places], axis=0)
    return channels_second(writer, writer.node("Reshape", [found, shapes[1]]), axes, node.name)


def is_large(product: Product) -> bool:
    """Whether a table leaves the caches that are near: then what one channel has of it is read at once."""
    low, high = product.ends
    return (high - low + 1) * product.node.channels > _NEAR
