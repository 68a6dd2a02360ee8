"""What only puts numbers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..body import Body
from ..constants import float_text
from ..tensors import words_of
from .axes import Axis, moved, stays, strides_of, write_move


def _same_or_moved(body: Body, axes: Sequence[Axis]) -> None:
    """Nothing where memory is the same already, or can be; else a move."""
    x, y = body.tensor("input"), body.tensor("output")
    if not (stays(axes) and body.places.unite(y.name, x.name)):
        write_move(body, axes, body.read(x, "x"), body.give(y, "y"), x)


def reshape(body: Body) -> None:
    """Write reshape, which moves nothing."""
    count = body.tensor("input").count
    _same_or_moved(body, moved([count], [1]))


def flatten(body: Body) -> None:
    """Write flatten, which moves numbers where channels come first."""
    x = body.tensor("input")
    if body.operation["order"] == "hwc":
        reshape(body)
    else:
        _same_or_moved(body, moved([x.channels, x.places], [1, x.channels]))


def permute(body: Body) -> None:
    """Write permute."""
    x, axes = body.tensor("input"), body.operation["axes"]
    rows = x.axes(len(axes) - 1)
    steps = strides_of([*rows, x.channels])
    sizes, sources = [x.channels, *rows], [steps[-1], *steps[:-1]]
    order = [*axes[1:], axes[0]]  # of what comes out, channels last
    _same_or_moved(body, moved([sizes[axis] for axis in order], [sources[axis] for axis in order]))


def concat(body: Body) -> None:
    """Write concat: each part has its place behind the others along the axis."""
    parts, y, axis = body.inputs(), body.tensor("output"), body.operation.get("axis", 0)
    if len(parts) == 1 and body.places.unite(y.name, parts[0].name):
        return
    count = max(-axis, *(len(part.rows) for part in parts))
    whole = strides_of([*y.axes(count), y.channels])
    along, first = (count if axis == 0 else count + axis), 0
    out = body.give(y, "y")
    for number, part in enumerate(parts):
        sizes = [*part.axes(count), part.channels]
        axes = moved(sizes, strides_of(sizes), whole)
        write_move(body, axes, body.read(part, f"x{number}"), out, part, first, f"axes{number}")
        first += sizes[along] * whole[along]


def _picked(body: Body, sizes: Sequence[int], places: Sequence[NDArray[np.int64] | None]) -> None:
    """Write a move of numbers that are picked along axes of the input, of these sizes."""
    results = [size if at is None else len(at) for size, at in zip(sizes, places, strict=True)]
    axes = [
        Axis(result, source, target, at)
        for result, source, target, at in zip(results, strides_of(sizes), strides_of(results), places, strict=True)
    ]
    x, y = body.tensor("input"), body.tensor("output")
    write_move(body, axes, body.read(x, "x"), body.give(y, "y"), x)


def select(body: Body) -> None:
    """Write select."""
    x = body.tensor("input")
    _picked(body, [x.places, x.channels], [None, body.named("channels").astype(np.int64)])


def take(body: Body) -> None:
    """Write take."""
    x, axis = body.tensor("input"), body.operation["axis"]
    count = max(-axis, len(x.rows))
    places: list[NDArray[np.int64] | None] = [None] * (count + 1)
    places[count + axis] = body.named("indices").astype(np.int64)
    _picked(body, [*x.axes(count), x.channels], places)


def nearest(body: Body) -> None:
    """Write resize to the nearest pixels."""
    x, sizes = body.tensor("input"), body.operation["output_size"]
    rows = x.axes(len(sizes))
    places = [np.arange(count) * size // count for size, count in zip(rows, sizes, strict=True)]
    _picked(body, [*rows, x.channels], [*places, None])


_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(body: Body) -> None:
    """Write pad."""
    operation, x = body.operation, body.tensor("input")
    padding = operation["padding"]
    if not any(padding):
        padding = [0] * 2 * len(x.rows)
    axes = len(padding) // 2
    rows, before, after = x.axes(axes), padding[:axes], padding[axes:]
    if operation["mode"] == "constant":
        _padded_with(body, rows, before)
        return
    places = [
        np.pad(np.arange(size), width, _MODES[operation["mode"]])  # type: ignore[call-overload]
        for size, *width in zip(rows, before, after, strict=True)
    ]
    _picked(body, [*rows, x.channels], [*places, None])


def _padded_with(body: Body, rows: Sequence[int], before: Sequence[int]) -> None:
    """Write a value everywhere, and the input in the middle."""
    operation, x, y = body.operation, body.tensor("input"), body.tensor("output")
    value, axes = operation.get("value", 0), len(rows)
    whole = strides_of([*y.axes(axes), y.channels])
    first = sum(at * step for at, step in zip([*before, operation.get("channels", [0, 0])[0]], whole, strict=True))
    source, out = body.read(x, "x"), body.give(y, "y")
    if y.bits:
        word = int(value) * (0xFFFFFFFF // ((1 << y.field) - 1))
        body.call("fill_words", out, words_of(y.count, y.field), f"UINT32_C(0x{word:x})")
    else:
        body.call("set_floats", out, y.count, float_text(value))
    sizes = [*rows, x.channels]
    write_move(body, moved(sizes, strides_of(sizes), whole), source, out, x, first)
