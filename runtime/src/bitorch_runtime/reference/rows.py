"""Row axes, and what only puts numbers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def without_leading_ones(rows: Sequence[int]) -> list[int]:
    """Row axes without those of 1 in front of all others."""
    return [size for i, size in enumerate(rows) if any(other != 1 for other in rows[: i + 1])]


def with_rows(x: NDArray[Any], count: int) -> NDArray[Any]:
    """[B, *rows, C] with as many row axes, by axes of 1 put in front of all others or left out there."""
    rows = without_leading_ones(x.shape[1:-1])
    return x.reshape(len(x), *[1] * (count - len(rows)), *rows, x.shape[-1])


def take(x: NDArray[Any], axis: int, indices: NDArray[np.int32]) -> NDArray[Any]:
    """Places along a row axis of [B, *rows, C]: −1 is the last one."""
    return np.take(with_rows(x, max(-axis, x.ndim - 2)), indices, axis=axis - 1)


def reshape(x: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """[B, *rows, C] to the axes [C', *rows'], the numbers in the order of rows first, channels last."""
    return x.reshape(len(x), *(shape[1:] if len(shape) > 1 else (1, 1)), shape[0])


def permute(x: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """[B, *rows, C] with other axes: of [C, *rows], axis i is axis axes[i] of x."""
    channels_first = np.moveaxis(with_rows(x, len(axes) - 1), -1, 1)
    return np.moveaxis(channels_first.transpose(0, *(axis + 1 for axis in axes)), 1, -1)


def concat(parts: Sequence[NDArray[Any]], axis: int = 0) -> NDArray[Any]:
    """Tensors [B, *rows, C] one behind the other: along channels for 0, along the last row axis for −1, and so on."""
    count = max(-axis, parts[0].ndim - 2)
    return np.concatenate([with_rows(part, count) for part in parts], axis=-1 if axis == 0 else axis - 1)


def flatten(x: NDArray[Any], order: str) -> NDArray[Any]:
    """[B, *rows, C] to [B, 1, 1, F], the features in the order "chw" (PyTorch's: channels first) or "hwc" (last)."""
    ordered = np.moveaxis(x, -1, 1) if order == "chw" else x
    return ordered.reshape(len(x), 1, 1, int(np.prod(x.shape[1:])))


def as_one_row(x: NDArray[Any]) -> NDArray[Any]:
    """[B, *rows, C] as [B, 1, P, C], all places of the rows one behind the other."""
    return x.reshape(len(x), 1, int(np.prod(x.shape[1:-1])), x.shape[-1])
