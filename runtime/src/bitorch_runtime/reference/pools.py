"""Largest numbers and means of windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .rows import as_one_row
from .sliding import windows


def max_pool(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
) -> NDArray[Any]:
    """Maximum over windows of codes or floats, [B, H, W, C]. Borders are −inf, or code 0; NaN wins.

    Which zero leaves a window whose maximum is zero, and that holds −0 and 0, is not defined.
    """
    fill = -np.inf if x.dtype == np.float32 else 0
    taps = [pixels for _, _, pixels in windows(x, kernel_size, stride, padding, dilation, fill)]
    largest: NDArray[Any] = np.maximum.reduce(taps)
    return largest


def avg_pool(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    count_include_pad: bool = True,
    scale: float | None = None,
) -> Floats:
    """Mean over windows: float32(Σ q)·scale / count for codes, Σ x / count for floats.

    Floats are added one after the other, from 0 on, row by row from the top left.

    Args:
        x: codes or float32, [B, H, W, C].
        count_include_pad: True divides by the size of the window, False by the number of its pixels inside the image.
        scale: what one code is worth; of no use to floats.
    """
    total: NDArray[Any] = reduce(np.add, (pixels for _, _, pixels in windows(x, kernel_size, stride, padding)))
    inside = np.ones((1, *x.shape[1:3], 1), np.int64)
    fill = 1 if count_include_pad else 0
    taps = windows(inside, kernel_size, stride, padding, fill=fill)
    count: Integers = reduce(np.add, (pixels for _, _, pixels in taps))
    values: Floats = total.astype(np.float32)
    if scale is not None:
        values = np.multiply(values, np.float32(scale))
    return np.divide(values, count.astype(np.float32))


def global_avg_pool(x: NDArray[Any], scale: float | None = None) -> Floats:
    """`avg_pool` over all rows: [B, *rows, C] gives [B, 1, 1, C]."""
    image = as_one_row(x)
    return avg_pool(image, image.shape[1:3], scale=scale)


def adaptive_avg_pool(x: Floats, output_size: Sequence[int]) -> Floats:
    """Mean over windows that cover an image [B, H, W, C] evenly: [B, *output_size, C].

    Pixel i of h takes the rows ⌊i·H/h⌋ … ⌈(i + 1)·H/h⌉ − 1, and likewise for columns. Values are added one after the
    other, from 0 on, row by row from the top left, and divided by the number of rows, then by that of columns.
    """
    rows, columns = (
        [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(x.shape[1:3], output_size, strict=True)
    )
    y = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]), np.float32)
    for i, j in np.ndindex(len(rows), len(columns)):
        for row in rows[i]:
            for column in columns[j]:
                y[:, i, j] += x[:, row, column]
        y[:, i, j] = y[:, i, j] / np.float32(len(rows[i])) / np.float32(len(columns[j]))
    return y
