"""Numbers that are put elsewhere, axis by axis, as C has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..body import Body
from ..tensors import CTensor


@dataclass(frozen=True)
class Axis:
    """An axis of what comes out.

    Attributes:
        size: of it.
        source: how far apart its numbers are where they are read.
        target: likewise where they are written.
        places: which number of the source's axis each is; None: they are in order.
    """

    size: int
    source: int
    target: int
    places: NDArray[np.int64] | None = None


def strides_of(shape: Sequence[int]) -> list[int]:
    """Return how far apart the numbers of each axis are."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def moved(sizes: Sequence[int], sources: Sequence[int], targets: Sequence[int] | None = None) -> list[Axis]:
    """Return axes in order; those without targets are written one after the other."""
    targets = strides_of(sizes) if targets is None else targets
    return [Axis(*each) for each in zip(sizes, sources, targets, strict=True)]


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Return as few axes as say the same."""
    found: list[Axis] = []
    for axis in axes:
        if axis.size == 1 and axis.places is None:
            continue
        last = found[-1] if found else None
        if (
            last is not None
            and last.places is None
            and axis.places is None
            and last.source == axis.source * axis.size
            and last.target == axis.target * axis.size
        ):
            found[-1] = replace(axis, size=last.size * axis.size)
        else:
            found.append(axis)
    return found if found else [Axis(1, 1, 1)]


def stays(axes: Sequence[Axis]) -> bool:
    """Whether every number is written where it is read."""
    return all(axis.places is None and (axis.source == axis.target or axis.size == 1) for axis in axes)


def write_axes(body: Body, axes: Sequence[Axis], name: str = "axes") -> str:
    """Write axes as constants, and return the arguments that say them: the axes, how many, and how many numbers."""
    found = merged(axes)
    body.use("axes")
    body.line(f"static const net_axis {name}[{len(found)}] = {{")
    for number, axis in enumerate(found):
        places = "0" if axis.places is None else body.array(axis.places, "uint32_t", f"places_{number}")
        body.line(f"    {{{axis.size}, {axis.source}, {axis.target}, {places}}},")
    body.line("};")
    return f"{name}, {len(found)}, {math.prod(axis.size for axis in found)}"


def write_move(
    body: Body, axes: Sequence[Axis], x: str, y: str, tensor: CTensor, first: int = 0, name: str = "axes"
) -> None:
    """Write how numbers go from x to y, the first of them at number `first` of y.

    Args:
        tensor: one of the two; the other has the same kind of numbers.
    """
    arguments = write_axes(body, axes, name)
    if tensor.bits:
        body.call("move_codes", arguments, x, y, tensor.field, first)
    else:
        body.call("move_words", arguments, x, f"{y} + {first}" if first else y)
