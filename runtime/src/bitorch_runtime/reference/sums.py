"""Sums of many floats, in one order on every CPU: what normalisations and reductions have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .basics import Floats

Doubles = NDArray[np.float64]

#: Number i of a list belongs to lane i mod 32.
LANES = 32
#: So many numbers of each lane have their squares added in float32, where a list stands at one place.
RUN = 16


def in_lanes(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """[…, n] as [n / 32, …, 32], zeros behind the last number."""
    missing = -x.shape[-1] % LANES
    padded = np.concatenate([x, np.zeros((*x.shape[:-1], missing), x.dtype)], axis=-1)
    lanes: NDArray[np.floating] = np.moveaxis(padded.reshape(*x.shape[:-1], padded.shape[-1] // LANES, LANES), -2, 0)
    return lanes


def one_by_one(x: Doubles) -> Doubles:
    """Σ over the first axis, one after the other, from 0 on."""
    total: Doubles = np.zeros(x.shape[1:], x.dtype)
    for row in x:
        total = total + row
    return total


def of_lanes(lanes: Doubles) -> Doubles:
    """Lane l takes lane l + 16, l + 8, l + 4, l + 2, l + 1: [..., 32] becomes [...]."""
    half = LANES // 2
    while half > 0:
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
        half //= 2
    total: Doubles = lanes[..., 0]
    return total


def total(x: NDArray[np.floating]) -> Doubles:
    """Σ over the last axis in float64: in lanes, each one after the other."""
    return of_lanes(one_by_one(in_lanes(x.astype(np.float64))))


def total_of_squares(difference: Floats) -> Doubles:
    """Σ d² over the last axis, of a list at one place: 16 numbers of a lane in float32, their sums in float64."""
    steps = in_lanes(difference * difference).astype(np.float32)
    runs = [one_by_one(steps[first : first + RUN]) for first in range(0, len(steps), RUN)]
    return of_lanes(one_by_one(np.stack(runs).astype(np.float64)))
