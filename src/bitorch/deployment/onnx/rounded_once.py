"""x·multiply + offset, rounded once, as PyTorch computes batch normalisation; ONNX has no such operator.

The product of two float32 is exact in float64. Their sum with the offset is rounded there, s, and again to float32, r.
Twice rounded is another number than once only if s lies exactly halfway between two float32, and the true sum beside
it, on the side of the other one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..graph.chains import composed, probe, source
from ..graph.graph import Graph, Node
from ..passes.quantizer_codes import over_channels
from ..runtime.fuse_thresholds import reach
from .code_steps import along
from .require_onnx import onnx
from .writer import Writer

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
#: Sums times channels that are gone through, and how many at once.
_MOST_NUMBERS, _AT_ONCE = 2**25, 2**20


def is_safe_in_float64(graph: Graph, node: Node, inexact: set[str]) -> bool:
    """Whether rounding twice gives a batch normalisation's numbers: whatever comes in, or as far as that matters.

    Args:
        inexact: nodes whose last bits are free, see `behind_sums`.
    """
    if node.inputs[0] in inexact:
        return True
    start, chain = source(graph, node, lambda at: True)
    if start.kind != "product":
        return False
    low, high = reach(start)
    if (high - low + 1) * node.channels > _MOST_NUMBERS:
        return False
    before = composed(chain)
    step = max(1, _AT_ONCE // node.channels)
    for first in range(low, high + 1, step):
        d = torch.arange(first, min(first + step, high + 1), dtype=torch.float32)
        x = before(probe(d.unsqueeze(1).repeat(1, node.channels), node.shape))
        if bool(_goes_wrong(node, x).any()):
            return False
    return True


def behind_sums(graph: Graph) -> set[str]:
    """The nodes whose last bits are free, and those behind them up to codes."""
    inexact: set[str] = set()
    for node in graph:
        is_free = not node.row.exact or any(name in inexact for name in node.inputs)
        if is_free and not node.row.makes_codes:
            inexact.add(node.name)
    return inexact


def _goes_wrong(node: Node, x: Tensor) -> Tensor:
    """Say where rounding twice gives another number than rounding once."""
    multiply, offset = (over_channels(node.settings[key], x).double() for key in ("multiply", "offset"))
    product = x.double() * multiply
    total = product + offset
    rounded = total.float().double()
    rest = total - rounded
    other = rounded + 2 * rest
    back = total - product
    error = (product - (total - back)) + (offset - back)
    return (other.float().double() == other) & (rest * error > 0)


def write_rounded_once(writer: Writer, node: Node, x: str) -> str:
    """Write a batch normalisation that is right everywhere, in float64 and with what that has lost."""

    def op(op_type: str, *inputs: str) -> str:
        return writer.node(op_type, inputs)

    def double(value: str) -> str:
        return writer.node("Cast", [value], to=_DOUBLE)

    def single(value: str) -> str:
        return writer.node("Cast", [value], to=_FLOAT)

    numbers = (along(node.settings[key].numpy().astype(np.float64), node) for key in ("multiply", "offset"))
    multiply, offset = (writer.constant(key, one) for key, one in zip(("multiply", "offset"), numbers, strict=True))
    product = op("Mul", double(x), multiply)
    total = op("Add", product, offset)
    rounded = single(total)
    rest = op("Sub", total, double(rounded))
    other = op("Add", double(rounded), op("Add", rest, rest))
    back = op("Sub", total, product)
    error = op("Add", op("Sub", product, op("Sub", total, back)), op("Sub", offset, back))
    is_halfway = op("Equal", double(single(other)), other)
    is_beyond = op("Greater", op("Mul", rest, error), writer.constant("zero", np.float64(0)))
    return writer.node("Where", [op("And", is_halfway, is_beyond), single(other), rounded], node.name)
