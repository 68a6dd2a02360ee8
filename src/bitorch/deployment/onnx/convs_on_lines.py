"""Convolutions of codes that give codes right away: QLinearConv, where a line is proved for every channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.graph import Graph, Node
from ..runtime.fuse_thresholds import reach
from .code_steps import cut_off
from .lines import Lines, Staircases, proved_lines
from .low_bit_sums import Product, weight_in_32_bits, window
from .require_onnx import onnx
from .writer import Writer

_INT8 = onnx.TensorProto.INT8


@dataclass(frozen=True)
class ConvOnLine:
    """A sum of codes, and the lines that give the codes behind its thresholds.

    Attributes:
        ends: the smallest and the largest of these codes, as they are stored.
    """

    product: Product
    lines: Lines
    ends: tuple[int, int]


def staircases_of(product: Node, thresholds: Node) -> Staircases:
    """The thresholds behind a sum."""
    settings, (low, high) = thresholds.settings, reach(product)
    numbers = settings["thresholds"].numpy().astype(np.int64)
    worth = 2 if settings["sign"] else 1
    return Staircases(numbers, settings["descending"].numpy(), low, high, worth).trimmed()


def conv_on_line(graph: Graph, readers: Sequence[Node], node: Node) -> ConvOnLine | None:
    """What gives the codes behind a sum; None if the sum itself is needed, or has no line.

    Args:
        node: of kind `product`.
        readers: of that node.
    """
    product = Product.of(node)
    is_only = len(readers) == 1 and node.name not in graph.outputs
    if not is_only or not product.spatial or product.is_transposed or product.most_factor < 1:
        return None
    (thresholds,) = readers
    if thresholds.kind != "thresholds" or thresholds.settings["table"] is not None:
        return None
    staircases = staircases_of(node, thresholds)
    lines = proved_lines(staircases, product.most_factor)
    return None if lines is None else ConvOnLine(product, lines, staircases.ends)


def codes_on_line(writer: Writer, node: Node, line: ConvOnLine, x: str) -> str:
    """Write the codes of a node of kind `thresholds`; x: the codes that the convolution reads."""
    product, lines = line.product, line.lines
    with writer.inside(product.node.name):
        weight = weight_in_32_bits(writer, product, tuple(range(2 + product.spatial)))
        if (lines.factor != 1).any():
            factor = lines.factor.astype(np.int32).reshape(-1, *[1] * (1 + product.spatial))
            weight = writer.node("Mul", [weight, writer.constant("factor", factor)])
        weight = writer.node("Cast", [weight], to=_INT8)
    one, zero = writer.constant("one", np.float32(1)), writer.constant("zero", np.uint8(product.zero))
    zeros = writer.constant("zeros", np.zeros(len(lines.scale), np.int8))
    inputs = [
        x, one, zero,
        weight, writer.constant("scale", lines.scale), zeros,
        one, writer.constant("zero", np.uint8(lines.zero)),
        writer.constant("bias", lines.bias.astype(np.int32)),
    ]  # fmt: skip
    return cut_off(writer, node, writer.node("QLinearConv", inputs, **window(product)), line.ends)
