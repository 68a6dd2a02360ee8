"""Sums of codes whose weight has a scale for each group of inputs, in stock operators: every number the runtime's.

MatMulInteger takes one matrix, and has to be called for each group; so the groups are a batch of products of floats
that hold integers, exact up to 2^24. Then the groups' sums are scaled, and added one after the other.
"""

from __future__ import annotations

import numpy as np

from ..graph.graph import Node
from .float_kinds.call import floats
from .layouts import channels_last, channels_second
from .low_bit_sums import EXACT, Product, weight_in_32_bits
from .require_onnx import onnx
from .stored_weights import shape
from .writer import Writer

_FLOAT = onnx.TensorProto.FLOAT


def why_not_in_groups(node: Node) -> str | None:
    """Say why the sums of a `group_product` would not be exact; None if they are."""
    reach = _largest_sum(node)
    if reach < EXACT:
        return None
    return f"the sums of its groups reach {reach:,}, and float32 has not every integer beyond 2^24"


def sum_of_groups(writer: Writer, node: Node, rows: tuple[int, ...], x: str) -> str:
    """Write a `group_product`, float32 [batch, F_out, *rows].

    Args:
        rows: axes of x behind its channels.
        x: the stored codes, uint8 [batch, F_in, *rows].
    """
    product, scale, bias = Product.of(node), floats(node.settings["scale"]).T, node.settings["bias"]
    count, outputs = scale.shape  # groups, F_out
    numbers = writer.node("Cast", [channels_last(writer, x, len(rows) + 2)], to=_FLOAT)
    numbers = writer.node("Sub", [numbers, writer.constant("zero", np.float32(product.zero))])
    groups = writer.node("Reshape", [numbers, shape(writer, [-1, count, product.weight.shape[1] // count])])
    groups = writer.node("Transpose", [groups], perm=[1, 0, 2])  # [groups, batch·rows, inputs of a group]
    weight = writer.node("Cast", [weight_in_32_bits(writer, product, (1, 0))], to=_FLOAT)
    weight = writer.node("Reshape", [weight, shape(writer, [count, -1, outputs])])
    sums = writer.node("MatMul", [groups, weight])
    scaled = writer.node("Mul", [sums, writer.constant("scale", scale[:, np.newaxis])])
    total = ""
    for index in range(count):
        one = writer.node("Gather", [scaled, writer.constant("group", np.int64(index))], axis=0)
        total = writer.node("Add", [total, one]) if total else one
    if bias is not None:
        total = writer.node("Add", [total, writer.constant("bias", floats(bias))])
    if not rows:
        return writer.node("Identity", [total], node.name)
    return channels_second(
        writer, writer.node("Reshape", [total, shape(writer, [-1, *rows, outputs])]), len(rows) + 2, node.name
    )


def _largest_sum(node: Node) -> int:
    """The largest magnitude that a group's sum can have."""
    most, _ = node.settings["largest"]
    scale = node.settings["scale"]
    of_groups = node.settings["weight"].abs().reshape(*scale.shape, -1).double().sum(2)
    return int(of_groups.max()) * int(most)
