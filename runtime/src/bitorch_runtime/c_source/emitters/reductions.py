"""One number of all along some axes."""

from __future__ import annotations

import math

import numpy as np

from ..body import Body
from .axes import moved, strides_of, write_axes


def reduce(body: Body) -> None:
    """Write reduce."""
    function = body.operation["function"]
    if function in ("argmax", "argmin"):
        _place_of(body)
        return
    x, y, axes = body.tensor("input"), body.tensor("output"), body.operation["axes"]
    count = max(-min(axes), len(x.rows))
    sizes = list(x.axes(count))
    steps = strides_of([*sizes, x.channels])[:-1]
    gone = [axis for axis in range(count) if axis - count in axes]
    kept = [axis for axis in range(count) if axis not in gone]
    source, out = body.read(x, "x"), body.give(y, "y")
    reduced = write_axes(body, moved([sizes[a] for a in gone], [steps[a] for a in gone]), "reduced")
    left = write_axes(body, moved([sizes[a] for a in kept], [steps[a] for a in kept]), "kept")
    write = _write_extremes if function in ("amax", "amin") else _write_sums
    work = body.working("float" if write is _write_extremes else "double", x.channels, "work")
    means = body.working("double", x.channels, "means") if function in ("var", "std") else ""
    with body.loop("r", math.prod(sizes[a] for a in kept)):
        body.use("read_at")
        body.line(f"uint32_t first = net_read_at({left.rpartition(',')[0]}, r);")
        write(body, f"{reduced}, {source}, {x.field if x.bits else 0}, first, {x.channels}", out, work, means)


def _total(body: Body, work: str) -> None:
    """Write the sum of the channels, where they are reduced too."""
    if 0 in body.operation["axes"]:
        body.use("total")
        body.line(f"{work}[0] = net_total({work}, {body.tensor('input').channels});")


def _write_sums(body: Body, what: str, out: str, work: str, means: str) -> None:
    """Write sums and what is made of them.

    Args:
        what: the arguments that say what is summed.
    """
    operation, x, y = body.operation, body.tensor("input"), body.tensor("output")
    function, numbers = operation["function"], y.channels
    count = x.count // y.count
    body.call("place_sums", what, 0, 0, int(function == "norm"), work)
    _total(body, work)
    if means:
        body.call("divide_sums", work, numbers, f"{count}.0")
        body.line(f"memcpy({means}, {work}, {8 * numbers});")
        body.call("place_sums", what, means, int(numbers > 1), 1, work)
        _total(body, work)
        correction = float(np.float32(operation.get("correction", 1.0)))
        body.call("divide_sums", work, numbers, repr(max(0.0, count - correction)))
    if function == "mean" and not x.bits:
        body.call("divide_sums", work, numbers, f"{count}.0")
    if function in ("std", "norm"):
        body.call("root_sums", work, numbers)
    row = f"{out} + r * {numbers}"
    body.call("store_sums", work, numbers, row)
    if x.bits:
        body.call("multiply_all", row, float(operation.get("scale", 1 / (2**x.bits - 1))), numbers)
        if function == "mean":
            body.call("divide_all", row, f"{count}.0f", numbers)


def _write_extremes(body: Body, what: str, out: str, work: str, means: str) -> None:
    """Write the largest or smallest of each channel, or of all."""
    x, y = body.tensor("input"), body.tensor("output")
    smallest = int(body.operation["function"] == "amin")
    body.call("place_extremes", what, smallest, work)
    if 0 in body.operation["axes"]:
        body.use("lanes_extreme")
        body.line(f"{work}[0] = net_lanes_extreme({work}, {x.channels}, {smallest});")
    if y.bits:
        body.call("store_codes", work, y.channels, out, y.field, f"r * {y.channels}")
    else:
        body.line(f"memcpy({out} + r * {y.channels}, {work}, {4 * y.channels});")


def _place_of(body: Body) -> None:
    """Write argmax or argmin."""
    x, (axis,) = body.tensor("input"), body.operation["axes"]
    count = max(-axis, len(x.rows))
    sizes = [*x.axes(count), x.channels]
    along = count if axis == 0 else count + axis
    outer, inner = math.prod(sizes[:along]), math.prod(sizes[along + 1 :])
    source, out = body.read(x, "x"), body.give(body.tensor("output"), "y")
    smallest = int(body.operation["function"] == "argmin")
    body.call("place_of", source, x.field if x.bits else 0, outer, sizes[along], inner, smallest, out)
