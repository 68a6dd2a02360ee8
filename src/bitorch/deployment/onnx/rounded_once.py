"""x·multiply + offset, rounded once, as PyTorch computes batch normalisation; ONNX has no such operator.

The product of two float32 is exact in float64. Their sum with the offset is rounded there, s, and again to float32, r.
Twice rounded is another number than once only if s lies exactly halfway between two float32, and the true sum beside
it, on the side of the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..graph.chains import composed, is_monotone, probe, source
from ..graph.graph import Graph, Node
from ..runtime.fuse_thresholds import reach
from .code_steps import along
from .require_onnx import onnx
from .writer import Writer

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
#: Sums times channels that are gone through, and how many at once.
_MOST_NUMBERS, _AT_ONCE = 2**25, 2**18
#: The smallest float32 with all its digits.
_LEAST = 2.0**-126


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
    before, (low, high) = composed(chain), reach(start)

    def x(d: Tensor) -> Tensor:
        """What comes in of integers D, [P, C]."""
        return before(probe(d.float(), node.shape)).reshape(d.shape)

    ends = torch.tensor([low, high]).unsqueeze(1).repeat(1, node.channels)
    first, end = _unsure(node, x, *ends) if all(map(is_monotone, chain)) else (ends[0], ends[1] + 1)
    numbers = [node.settings[key].expand(node.channels) for key in ("multiply", "offset")]
    if all(step.kind == "scale" for step in chain):
        scales = [step.settings["scale"].expand(node.channels) for step in chain]
        return _is_safe_in_turn(first, (end - first).clamp(min=0), scales, numbers)
    longest = int((end - first).max())
    if longest * node.channels > _MOST_NUMBERS:
        return False
    step = max(1, _AT_ONCE // node.channels)
    for begin in range(0, longest, step):
        d = first + torch.arange(begin, min(begin + step, longest)).unsqueeze(1)
        if bool((_goes_wrong(x(d), *numbers) & (d < end)).any()):
            return False
    return True


def _is_safe_in_turn(first: Tensor, counts: Tensor, scales: Sequence[Tensor], numbers: Sequence[Tensor]) -> bool:
    """Whether rounding twice is right for all D of each channel, one channel's behind the other's.

    Args:
        first, counts: of each channel the first D and how many there are, [C].
        scales: what D is multiplied by, one after the other, each [C].
        numbers: what the result is multiplied by, and what is added, [C].
    """
    ends = counts.cumsum(0)
    total = int(ends[-1])
    if total > _MOST_NUMBERS:
        return False
    for begin in range(0, total, _AT_ONCE):
        at = torch.arange(begin, min(begin + _AT_ONCE, total))
        channel = torch.searchsorted(ends, at, right=True)
        x = (first[channel] + at - (ends - counts)[channel]).float()
        for scale in scales:
            x = x * scale[channel]
        if bool(_goes_wrong(x, *(one[channel] for one in numbers)).any()):
            return False
    return True


def _unsure(node: Node, x: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each channel the first D, and the one behind the last, of which the sum may have no room in float64.

    The product has 48 bits, and the offset 24. Their sum has no more than the 53 of float64 while the product is at
    least 2^-4 and at most 2^28 of the offset, by their exponents. So it is where it is less, near one D, that rounding
    twice can be seen.

    Args:
        x: of D [P, C] what is multiplied, which rises or falls with D.
        low, high: what D can be, [C].
    """
    multiply, offset = (node.settings[key].double().abs().expand(node.channels) for key in ("multiply", "offset"))
    at_ends = x(torch.stack([low, high])).double() * multiply
    is_all = (at_ends.abs().amax(0) >= 2.0**27 * offset) & (offset > 0)
    sign = torch.where(x(high.unsqueeze(0)) < x(low.unsqueeze(0)), -1, 1)[0]
    # Exponents are up to one less than logarithms; at 2^-3 there is room for that.
    bound = offset * 2.0**-3

    def first(is_reached: Callable[[Tensor], Tensor]) -> Tensor:
        """The first D of which the product, which rises, is beyond something."""
        before, at = low - 1, high + 1
        while bool((at - before > 1).any()):
            middle = torch.div(before + at, 2, rounding_mode="floor")
            inside = torch.minimum(torch.maximum(middle, low), high).unsqueeze(0)
            reached = is_reached(sign * x(inside)[0].double() * multiply)
            at, before = torch.where(reached, middle, at), torch.where(reached, before, middle)
        return at

    from_, to = first(lambda product: product > -bound), first(lambda product: product >= bound)
    is_none = multiply == 0
    return torch.where(is_all, low, from_), torch.where(is_none, from_, torch.where(is_all, high + 1, to))


def behind_sums(graph: Graph) -> set[str]:
    """The nodes whose last bits are free, and those behind them up to codes."""
    inexact: set[str] = set()
    for node in graph:
        is_free = not node.row.exact or any(name in inexact for name in node.inputs)
        if is_free and not node.row.makes_codes:
            inexact.add(node.name)
    return inexact


def _goes_wrong(x: Tensor, multiply: Tensor, offset: Tensor) -> Tensor:
    """Say where rounding twice gives another number than rounding once; multiply and offset [C] meet x [P, C]."""
    product, offset = x.double() * multiply.double(), offset.double()
    total = product + offset
    # What lies halfway between two float32 ends in a 1 and 28 zeros, but for subnormal ones: next to nothing does.
    may = ((total.view(torch.int64) & (2**29 - 1)) == 2**28) | (total.abs() < _LEAST)
    product, total, offset = product[may], total[may], offset.expand_as(total)[may]
    rounded = total.float().double()
    rest = total - rounded
    other = rounded + 2 * rest
    back = total - product
    error = (product - (total - back)) + (offset - back)
    return may.masked_scatter(may, (other.float().double() == other) & (rest * error > 0))


def write_rounded_once(writer: Writer, node: Node, x: str) -> str:
    """Write a batch normalisation that is right everywhere, in float64 and with what that has lost."""

    def op(op_type: str, *inputs: str) -> str:
        return writer.node(op_type, inputs)

    def double(value: str) -> str:
        return writer.node("Cast", [value], to=_DOUBLE)

    def single(value: str) -> str:
        return writer.node("Cast", [value], to=_FLOAT)

    numbers = (along(node.settings[key].numpy(), node) for key in ("multiply", "offset"))
    multiply, offset = (
        double(writer.constant(key, one)) for key, one in zip(("multiply", "offset"), numbers, strict=True)
    )
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
