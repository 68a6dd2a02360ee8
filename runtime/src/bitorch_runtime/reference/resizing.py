"""Images of another size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats

_A = np.float32(-0.75)  # of cubic weights
_ONE, _TWO, _THREE = np.float32(1), np.float32(2), np.float32(3)
_FIVE, _EIGHT, _FOUR = np.float32(5), np.float32(8), np.float32(4)


def resize_nearest(x: NDArray[Any], output_size: Sequence[int]) -> NDArray[Any]:
    """Pixels of [B, *rows, C]: output o of n along an axis of s is pixel ⌊o·s/n⌋."""
    for axis, count in enumerate(output_size, 1):
        x = x.take(np.arange(count) * x.shape[axis] // count, axis)
    return x


def resize(
    x: Floats,
    output_size: Sequence[int],
    mode: str,
    align_corners: bool = False,
    scale: Sequence[float] | None = None,
) -> Floats:
    """Pixels between those of [B, *rows, C]: weighted sums of two along each axis, or of four.

    The last axis of rows is summed first. A sum goes from the first pixel to the last, each product and each sum
    rounded once.

    Args:
        mode: "linear" or "cubic".
        scale: how many outputs a pixel makes, of each axis; None: as many as sizes say.
    """
    axes = len(output_size)
    scales = [None] * axes if scale is None else list(scale)
    for axis in reversed(range(axes)):
        places, weights = blend(x.shape[axis + 1], output_size[axis], mode, align_corners, scales[axis])
        taps = [x.take(places[:, k], axis + 1) for k in range(places.shape[1])]
        shape = [1] * x.ndim
        shape[axis + 1] = output_size[axis]
        total = taps[0] * weights[:, 0].reshape(shape)
        for k in range(1, len(taps)):
            total = total + taps[k] * weights[:, k].reshape(shape)
        x = total
    return x


def _sources(size: int, count: int, align_corners: bool, scale: float | None) -> Floats:
    """Where each output lies, in pixels of the input."""
    at = np.arange(count, dtype=np.float32)
    if align_corners:
        step = np.float32(size - 1) / np.float32(count - 1) if count > 1 else np.float32(0)
        places: Floats = step * at
        return places
    step = np.float32(size) / np.float32(count) if scale is None else np.float32(1 / scale)
    exact = np.float64(step) * (at + np.float32(0.5)).astype(np.float64) - 0.5
    rounded: Floats = exact.astype(np.float32)
    return rounded


def blend(
    size: int, count: int, mode: str, align_corners: bool, scale: float | None
) -> tuple[NDArray[np.int64], Floats]:
    """The pixels along an axis that each output is made of, and their weights, [count, 2] or [count, 4] both."""
    if mode == "linear" and size == count:  # whatever the scale
        stays = np.arange(count)
        return np.stack([stays, stays], 1), np.stack([np.ones(count, np.float32), np.zeros(count, np.float32)], 1)
    at = _sources(size, count, align_corners, scale)
    if mode == "linear":
        at = np.maximum(at, np.float32(0))
    first = np.minimum(np.floor(at).astype(np.int64), size - 1)
    part = np.minimum(np.maximum(at - first.astype(np.float32), np.float32(0)), _ONE)
    rest = _ONE - part
    if mode == "linear":
        return np.stack([first, np.minimum(first + 1, size - 1)], 1), np.stack([rest, part], 1)
    places = np.clip(np.stack([first - 1, first, first + 1, first + 2], 1), 0, size - 1)
    return places, np.stack([_far(part + _ONE), _near(part), _near(rest), _far(rest + _ONE)], 1)


def _near(x: Floats) -> Floats:
    weight: Floats = ((_A + _TWO) * x - (_A + _THREE)) * x * x + _ONE
    return weight


def _far(x: Floats) -> Floats:
    weight: Floats = ((_A * x - _FIVE * _A) * x + _EIGHT * _A) * x - _FOUR * _A
    return weight
