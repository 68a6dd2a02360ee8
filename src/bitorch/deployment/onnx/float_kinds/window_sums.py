"""Windows of an image as a few shifted copies of it, so that what is in them meets in a certain order.

Number (i, j) of every window at once is a slice of the image; the sum of these slices, one after the other, is the sum
of each window from its first number on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .call import Call


@dataclass(frozen=True)
class Windows:
    """For each row axis its size, and the first place of each window and the one behind its last; they may lie outside.

    Attributes:
        sizes: of the image.
        first, end: of each axis, int64 [windows].
    """

    sizes: tuple[int, ...]
    first: tuple[NDArray[np.int64], ...]
    end: tuple[NDArray[np.int64], ...]

    def offsets(self) -> list[range]:
        """Of each axis, places within a window."""
        return [range(int((end - first).max())) for first, end in zip(self.first, self.end, strict=True)]

    def places(self, axis: int, offset: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Of one axis, where number `offset` of each window stands, and whether it is there at all."""
        at = self.first[axis] + offset
        is_there = (at < self.end[axis]) & (at >= 0) & (at < self.sizes[axis])
        inside = np.clip(self.first[axis], 0, None), np.minimum(self.end[axis], self.sizes[axis]) - 1
        return np.clip(at, *inside), is_there

    def counts(self, padding: Sequence[int]) -> NDArray[np.float32]:
        """How many places of each window count, [1, 1, *windows]: those of the image, and of borders this wide."""
        total = np.ones((1, 1), np.float32)
        for axis, size in enumerate(self.sizes):
            low, high = -padding[2 * axis], size + padding[2 * axis + 1]
            inside = np.minimum(self.end[axis], high) - np.maximum(self.first[axis], low)
            total = total[..., None] * inside.astype(np.float32)
        return total

    def lengths(self) -> Iterator[NDArray[np.float32]]:
        """How many places each window has along each axis, as it meets [batch, C, *windows]."""
        axes = len(self.sizes)
        for axis in range(axes):
            line = (self.end[axis] - self.first[axis]).astype(np.float32)
            yield line.reshape(-1, *[1] * (axes - 1 - axis))


def uniform(sizes: Sequence[int], window: Mapping[str, Any]) -> Windows:
    """Windows with the attributes of a pool of ONNX."""
    kernel, strides, pads = (window[key] for key in ("kernel_shape", "strides", "pads"))
    axes = len(sizes)
    first = []
    for size, k, step, before, after in zip(sizes, kernel, strides, pads[:axes], pads[axes:], strict=True):
        first.append(np.arange((size + before + after - k) // step + 1, dtype=np.int64) * step - before)
    return Windows(tuple(sizes), tuple(first), tuple(one + k for one, k in zip(first, kernel, strict=True)))


def covering(sizes: Sequence[int], counts: Sequence[int]) -> Windows:
    """Windows that cover an image: of window i of n along an axis of s, ⌊i·s/n⌋ … ⌈(i + 1)·s/n⌉ − 1."""
    numbers = [np.arange(n, dtype=np.int64) for n in counts]
    pairs = [*zip(numbers, sizes, counts, strict=True)]
    first = tuple(i * size // n for i, size, n in pairs)
    return Windows(tuple(sizes), first, tuple(-(-(i + 1) * size // n) for i, size, n in pairs))


def sums(call: Call, x: str, windows: Windows) -> str:
    """The sum of each window, of zeros outside, row by row from 0 on: [batch, C, *windows]."""
    total = ""
    for value in _numbers(call, x, windows, fill=True):
        total = value if not total else call.op("Add", total, value)
    return total


def largest(call: Call, x: str, windows: Windows) -> str:
    """The largest number of each window of those that lie in the image; the node's value."""
    values = list(_numbers(call, x, windows, fill=False))
    return call.last("Max", *values)


def _numbers(call: Call, x: str, windows: Windows, *, fill: bool) -> Iterator[str]:
    """Yield each number of all windows, [batch, C, *windows], row by row.

    Args:
        fill: 0 where there is none, else one that is in the window anyway.
    """
    moved: dict[tuple[int, ...], str] = {(): x}
    for offsets in product(*windows.offsets()):
        is_there = np.ones((1, 1), bool)
        for axis, offset in enumerate(offsets):
            places, there = windows.places(axis, offset)
            is_there = is_there[..., None] & there
            key = offsets[: axis + 1]
            if key not in moved:
                moved[key] = _at(call, moved[offsets[:axis]], places, axis + 2, windows.sizes[axis])
        value = moved[offsets]
        if fill and not is_there.all():
            value = call.op("Where", call.constant("inside", is_there), value, call.number("zero", 0))
        yield value


def _at(call: Call, value: str, places: NDArray[np.int64], axis: int, size: int) -> str:
    """Places of an axis: all of them, a slice where they are evenly apart, or a choice."""
    if len(places) == size and bool((places == np.arange(size)).all()):
        return value
    step = int(places[1] - places[0]) if len(places) > 1 else 1
    if step > 0 and bool((places == places[0] + step * np.arange(len(places))).all()):
        ends = (call.integers(name, [int(n)]) for name, n in (("start", places[0]), ("end", places[-1] + 1)))
        return call.op("Slice", value, *ends, call.integers("axis", [axis]), call.integers("step", [step]))
    return call.op("Gather", value, call.integers("places", places.tolist()), axis=axis)
