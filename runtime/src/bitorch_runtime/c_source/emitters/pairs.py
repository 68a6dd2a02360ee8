"""Functions of two tensors, number by number."""

from __future__ import annotations

from ..body import Body
from ..tensors import CTensor
from .axes import Axis, strides_of, write_axes
from .stages import Leaving, write_codes


def _axes(y: CTensor, one: CTensor, other: CTensor) -> list[Axis]:
    """The axes of a result, and how far apart two tensors' numbers are along them: 0 where they have one place."""
    count = max(len(tensor.rows) for tensor in (y, one, other))
    sizes = [*y.axes(count), y.channels]

    def steps(tensor: CTensor) -> list[int]:
        own = [*tensor.axes(count), tensor.channels]
        return [0 if size == 1 else step for size, step in zip(own, strides_of(own), strict=True)]

    return [Axis(*each) for each in zip(sizes, steps(one), steps(other), strict=True)]


def pair(body: Body) -> None:
    """Write sub, mul, div, minimum or maximum."""
    _pair(body, body.operation["op"], body.tensor("output"), body.inputs())


def _pair(body: Body, function: str, y: CTensor, inputs: list[CTensor]) -> None:
    one, other = inputs
    for tensor in inputs:
        if tensor.count == y.count and body.overwrite(y, tensor):
            break
    a, b, out = body.read(one, "a"), body.read(other, "b"), body.give(y, "y")
    body.use(function)
    body.call("pairs", f"net_{function}", write_axes(body, _axes(y, one, other)), a, b, out)


def add(body: Body) -> None:
    """Write add, and what may follow the sum."""
    operation, (one, other) = body.operation, body.inputs()
    if one.count == other.count:
        _add_rows(body, one, other)
        return
    y = body.tensor("float32" if "float32" in operation else "codes")
    total = body.give(y, "total") if "float32" in operation else body.working("float", y.count, "total")
    a, b = body.read(one, "a"), body.read(other, "b")
    body.use("add")
    body.call("pairs", "net_add", write_axes(body, _axes(y, one, other)), a, b, total)
    if operation.get("relu", False):
        body.call("at_least", total, "0.0f", y.count)
    if "codes" in operation:
        codes = body.tensor("codes")
        out = body.give(codes, "z")
        with body.loop("p", y.places):
            write_codes(body, codes, f"{total} + p * {y.channels}", out, f"p * {y.channels}", y.channels)


def _add_rows(body: Body, one: CTensor, other: CTensor) -> None:
    """Add tensors of one shape, row by row."""
    if "float32" in body.operation:
        body.overwrite(body.tensor("float32"), one)
    a, b = body.read(one, "a"), body.read(other, "b")
    leaving = Leaving(body, one.channels, floats=True)
    with body.loop("p", one.places):
        body.line(f"memmove({leaving.y}, {a} + p * {one.channels}, {4 * one.channels});")
        body.call("add_row", leaving.y, f"{b} + p * {one.channels}", one.channels)
        leaving.finish()


def where(body: Body) -> None:
    """Write where: the second input everywhere, then the first where the condition says so."""
    (one, other), condition, y = body.inputs(), body.tensor("condition"), body.tensor("output")
    a, b, out = body.read(one, "a"), body.read(other, "b"), body.give(y, "y")
    chosen = body.read(condition, "condition")
    body.use("second")
    body.call("pairs", "net_second", write_axes(body, _axes(y, other, other), "all"), b, b, out)
    body.call("first_where", write_axes(body, _axes(y, one, condition)), a, chosen, out)
