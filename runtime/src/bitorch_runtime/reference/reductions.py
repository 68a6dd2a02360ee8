"""One number of all along some axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce as fold
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .rows import with_rows
from .sums import LANES, Doubles, one_by_one, total


def reduce(
    x: NDArray[Any], function: str, axes: Sequence[int], correction: float = 1.0, scale: float | None = None
) -> NDArray[Any]:
    """Reduce [B, *rows, C] along axes of [C, *rows], which become 1: 0 is the channels, −1 the last row axis, ….

    Places come one after the other, in the order of memory, then channels in lanes.

    Args:
        x: float32, or codes.
        function: "sum" or "mean", in float64 rounded once; of codes float32(Σ q)·scale, then / count; "norm", √Σ x²;
            "var", Σ (x − mean)² / (count − correction), and "std", its root, all in float64 too; "amax" and "amin",
            where NaN wins; "argmax" and "argmin", the first place of that number, int64.
        scale: what one code is worth.
    """
    places, as_it_was = _places_in_front(x, axes)
    if function in ("argmax", "argmin"):
        return as_it_was(_place_of(x, axes, smallest=function == "argmin"))
    if function in ("amax", "amin"):
        return as_it_was(_extreme(places, 0 in axes, smallest=function == "amin"))
    count = places.shape[0] * (places.shape[-1] if 0 in axes else 1)
    numbers = places.astype(np.float64)
    if function in ("sum", "mean"):
        return as_it_was(_sum(numbers, 0 in axes, count if function == "mean" else None, scale))
    if function != "norm":
        mean = _added(numbers, 0 in axes) / count
        numbers = numbers - (mean[..., None] if 0 in axes else mean)
    squares = _added(numbers * numbers, 0 in axes)
    if function != "norm":
        squares = squares / max(0.0, count - float(np.float32(correction)))
    return as_it_was((squares if function == "var" else np.sqrt(squares)).astype(np.float32))


def _places_in_front(x: NDArray[Any], axes: Sequence[int]) -> tuple[NDArray[Any], Any]:
    """[places, …, C], the reduced row axes as one, and what brings a result into the shape with axes of 1."""
    rows = with_rows(x, max(-min(axes), x.ndim - 2))
    reduced = sorted(rows.ndim - 1 + axis for axis in axes if axis < 0)
    kept = [axis for axis in range(rows.ndim - 1) if axis not in reduced]
    moved = rows.transpose(*reduced, *kept, rows.ndim - 1)
    count = int(np.prod([rows.shape[axis] for axis in reduced]))
    shape = [1 if axis in reduced else size for axis, size in enumerate(rows.shape)]
    shape[-1] = 1 if 0 in axes else shape[-1]
    return moved.reshape(count, *moved.shape[len(reduced) :]), lambda y: y.reshape(shape)


def _added(numbers: Doubles, over_channels: bool) -> Doubles:
    sums = one_by_one(numbers)
    return total(sums) if over_channels else sums


def _sum(numbers: Doubles, over_channels: bool, count: int | None, scale: float | None) -> Floats:
    sums = _added(numbers, over_channels)
    if scale is None:
        return (sums if count is None else sums / count).astype(np.float32)
    values: Floats = sums.astype(np.float32) * np.float32(scale)
    return values if count is None else values / np.float32(count)


def _further(one: NDArray[Any], other: NDArray[Any], *, smallest: bool) -> NDArray[Any]:
    """Of two the one that is larger (smaller), the first of equal ones; NaN wins."""
    wins = (other < one if smallest else other > one) | (np.isnan(other) & ~np.isnan(one))
    return np.where(wins, other, one)


def _extreme(places: NDArray[Any], over_channels: bool, *, smallest: bool) -> NDArray[Any]:
    """The largest (smallest) of [places, …, C], place after place, then of the channels in lanes."""
    most = fold(lambda one, other: _further(one, other, smallest=smallest), places)
    if not over_channels:
        return most
    channels = np.moveaxis(most.astype(np.float64), -1, 0)
    missing = -len(channels) % LANES
    none = np.full((missing, *channels.shape[1:]), np.inf if smallest else -np.inf)
    lanes = np.concatenate([channels, none])
    lanes = lanes.reshape(len(lanes) // LANES, LANES, *channels.shape[1:])
    found = fold(lambda one, other: _further(one, other, smallest=smallest), lanes)
    while len(found) > 1:
        found = _further(found[: len(found) // 2], found[len(found) // 2 :], smallest=smallest)
    return found[0].astype(places.dtype)


def _place_of(x: NDArray[Any], axes: Sequence[int], *, smallest: bool) -> Integers:
    """The first place of the largest (smallest) number along one axis; of the first NaN, if there is one."""
    (axis,) = axes
    rows = with_rows(x, max(-axis, x.ndim - 2))
    along = -1 if axis == 0 else rows.ndim - 1 + axis
    places: Integers = (np.argmin if smallest else np.argmax)(rows, axis=along)
    return places
