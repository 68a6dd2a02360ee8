"""Windows over images and signals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Operation
from .rows import with_rows


def as_image(x: NDArray[Any], axes: int) -> NDArray[Any]:
    """[B, *rows, C] as [B, H, W, C], for a window along so many axes: one row of a signal."""
    return with_rows(with_rows(x, axes), 2)


def as_signal(x: NDArray[Any], axes: int) -> NDArray[Any]:
    """The reverse of `as_image`, of what a window along so many axes gives."""
    return x[:, 0] if axes == 1 else x


def two_axes(operation: Operation) -> dict[str, Any]:
    """The window of an operation, as two axes have it where it is one along one axis."""
    keys = ("kernel_size", "stride", "padding", "dilation")
    window = {key: list(operation[key]) for key in keys if key in operation}
    for key, numbers in window.items():
        if key == "padding":
            window[key] = [0, numbers[0], 0, numbers[1]] if len(numbers) == 2 else numbers
        else:
            window[key] = [1, *numbers] if len(numbers) == 1 else numbers
    return window


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """floor((size + before + after − dilation·(kernel − 1) − 1) / stride) + 1, of one axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def windows(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    fill: float = 0,
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (i, j, pixels) for each tap of a kernel: what that tap sees at every position of the output.

    Args:
        x: [B, H, W, C].
        fill: what the borders hold.

    Yields:
        tap row, tap column and pixels, [B, Ho, Wo, C].
    """
    top, left, bottom, right = padding
    height = output_size(x.shape[1], kernel_size[0], stride[0], top, bottom, dilation[0])
    width = output_size(x.shape[2], kernel_size[1], stride[1], left, right, dilation[1])
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            y, x0 = i * dilation[0], j * dilation[1]
            rows = slice(y, y + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(x0, x0 + (width - 1) * stride[1] + 1, stride[1])
            yield i, j, padded[:, rows, columns]


def pad(
    x: NDArray[Any], padding: Sequence[int], mode: str, value: float = 0, channels: Sequence[int] = (0, 0)
) -> NDArray[Any]:
    """Pixels around an image [B, H, W, C], and channels before and after.

    Args:
        mode: "constant" (`value`), "reflect" (the border itself is not repeated), "replicate" or "circular".
    """
    top, left, bottom, right = padding
    width = ((0, 0), (top, bottom), (left, right), (channels[0], channels[1]))
    if mode == "constant":
        return np.pad(x, width, constant_values=value)
    if mode == "reflect":
        return np.pad(x, width, "reflect")
    return np.pad(x, width, "edge" if mode == "replicate" else "wrap")
