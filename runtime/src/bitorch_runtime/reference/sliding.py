"""Windows over images, signals and volumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """floor((size + before + after − dilation·(kernel − 1) − 1) / stride) + 1, of one axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def borders(padding: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of each axis, of the numbers before all axes, then after them."""
    axes = len(padding) // 2
    return list(zip(padding[:axes], padding[axes:], strict=True))


def in_rows(places: Iterable[int | slice]) -> tuple[int | slice, ...]:
    """The index of these places along the axes of rows of [B, *rows, C]."""
    return (slice(None), *places)


def windows(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    fill: float = 0,
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Yield (tap, pixels) for each tap of a kernel: what that tap sees at every position of the output.

    Args:
        x: [B, *rows, C], with a number of each setting for each axis of rows.
        fill: what the borders hold.

    Yields:
        the tap's place in the kernel, and pixels, [B, *output rows, C].
    """
    around = borders(padding)
    axes = list(zip(x.shape[1:-1], kernel_size, stride, around, dilation, strict=True))
    counts = [output_size(size, k, step, *border, d) for size, k, step, border, d in axes]
    padded = np.pad(x, ((0, 0), *around, (0, 0)), constant_values=fill)
    for tap in product(*map(range, kernel_size)):
        places = (
            slice(i * d, i * d + (count - 1) * step + 1, step)
            for i, d, step, count in zip(tap, dilation, stride, counts, strict=True)
        )
        yield tap, padded[in_rows(places)]


def pad(
    x: NDArray[Any], padding: Sequence[int], mode: str, value: float = 0, channels: Sequence[int] = (0, 0)
) -> NDArray[Any]:
    """Pixels around an image [B, *rows, C], and channels before and after.

    Args:
        padding: before each axis of rows, then after each: (top, left, bottom, right).
        mode: "constant" (`value`), "reflect" (the border itself is not repeated), "replicate" or "circular".
    """
    width = ((0, 0), *borders(padding), (channels[0], channels[1]))
    if mode == "constant":
        return np.pad(x, width, constant_values=value)
    if mode == "reflect":
        return np.pad(x, width, "reflect")
    return np.pad(x, width, "edge" if mode == "replicate" else "wrap")
