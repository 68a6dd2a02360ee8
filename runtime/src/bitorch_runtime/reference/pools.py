"""Largest numbers and means of windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .rows import as_one_row
from .sliding import borders, in_rows, windows


def max_pool(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
) -> NDArray[Any]:
    """Maximum over windows of codes or floats, [B, *rows, C]. Borders are −inf, or code 0; NaN wins.

    Which zero leaves a window whose maximum is zero, and that holds −0 and 0, is not defined.
    """
    fill = -np.inf if x.dtype == np.float32 else 0
    taps = [pixels for _, pixels in windows(x, kernel_size, stride, padding, dilation, fill)]
    largest: NDArray[Any] = np.maximum.reduce(taps)
    return largest


def avg_pool(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    count_include_pad: bool = True,
    scale: float | None = None,
    beyond: Sequence[int] = (0, 0),
    divisor: int | None = None,
) -> Floats:
    """Mean over windows: float32(Σ q)·scale / count for codes, Σ x / count for floats.

    Floats are added one after the other, from 0 on, row by row from the top left.

    Args:
        x: codes or float32, [B, *rows, C].
        count_include_pad: True divides by the pixels of the window and of its padding, False by those of the image.
        scale: what one code is worth; of no use to floats.
        beyond: further pixels of nothing behind the padding of each axis, which never count.
        divisor: what to divide by in place of all that counts.
    """
    axes, ones = len(kernel_size), (1,) * len(kernel_size)
    around = [*padding[:axes], *(after + more for after, more in zip(padding[axes:], beyond, strict=True))]
    pixels = (pixels for _, pixels in windows(x, kernel_size, stride, around, ones))
    total: NDArray[Any] = reduce(np.add, pixels, x.dtype.type(0))  # so that a mean of −0 alone is 0
    inside = np.ones((1, *x.shape[1:-1], 1), np.int64)
    counted = np.pad(inside, ((0, 0), *borders(padding), (0, 0)), constant_values=1 if count_include_pad else 0)
    taps = windows(counted, kernel_size, stride, [0] * axes + [*beyond], ones)
    count: Integers = reduce(np.add, (pixels for _, pixels in taps))
    if divisor is not None:
        count = np.full_like(count, divisor)
    values: Floats = total.astype(np.float32)
    if scale is not None:
        values = np.multiply(values, np.float32(scale))
    return np.divide(values, count.astype(np.float32))


def global_avg_pool(x: NDArray[Any], scale: float | None = None) -> Floats:
    """`avg_pool` over all rows: [B, *rows, C] gives [B, 1, 1, C]."""
    image = as_one_row(x)
    return avg_pool(image, image.shape[1:3], scale=scale)


def _covering(rows: Sequence[int], output_size: Sequence[int]) -> list[list[range]]:
    """For each axis the pixels of each window: of window i of n along an axis of s, ⌊i·s/n⌋ … ⌈(i + 1)·s/n⌉ − 1."""
    return [
        [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(rows, output_size, strict=True)
    ]


def adaptive_avg_pool(x: Floats, output_size: Sequence[int]) -> Floats:
    """Mean over windows that cover [B, *rows, C] evenly: [B, *output_size, C].

    Values are added one after the other, from 0 on, row by row from the top left, and divided by the number of pixels
    along each axis, one axis after the other.
    """
    axes = _covering(x.shape[1:-1], output_size)
    y = np.zeros((x.shape[0], *output_size, x.shape[-1]), np.float32)
    for place in np.ndindex(*output_size):
        window = [axis[i] for axis, i in zip(axes, place, strict=True)]
        for pixel in product(*window):
            y[in_rows(place)] += x[in_rows(pixel)]
        for pixels in window:
            y[in_rows(place)] /= np.float32(len(pixels))
    return y


def adaptive_max_pool(x: NDArray[Any], output_size: Sequence[int]) -> NDArray[Any]:
    """The largest numbers of the same windows; NaN wins, and of −0 and 0 either."""
    axes = _covering(x.shape[1:-1], output_size)
    y = np.empty((x.shape[0], *output_size, x.shape[-1]), x.dtype)
    for place in np.ndindex(*output_size):
        window = (slice(axis[i].start, axis[i].stop) for axis, i in zip(axes, place, strict=True))
        y[in_rows(place)] = x[in_rows(window)].max(axis=tuple(range(1, x.ndim - 1)))
    return y
