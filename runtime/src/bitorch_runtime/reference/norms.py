"""Normalisations: numbers that belong together, their mean taken away, divided by their common size."""

from __future__ import annotations

import math

import numpy as np

from .basics import Floats
from .sums import Doubles, one_by_one, total, total_of_squares


def normalize(
    x: Floats,
    by: str,
    eps: float,
    rows: int = 0,
    groups: int = 1,
    weight: Floats | None = None,
    bias: Floats | None = None,
) -> Floats:
    """y = (x − m)·f·weight + bias, each step rounded to float32, m and f those of the set that x belongs to.

    A set is one of `groups` runs of channels, at one place, or at all places of the last `rows` row axes. The sum of
    its n numbers is one of float64: of each channel place after place, then of the channels in lanes (`total`). Of
    "deviation" m is float32(Σ x / n), of the others 0. f is made of Σ (x − Σ x / n)², or Σ x², by `factor`.

    Args:
        x: [B, *rows, C].
        by: "deviation", "root_mean_square" or "norm".
        rows: how many of the last row axes, all of them where there are fewer.
        weight, bias: [C], or [places, C], a row for each place of a set.
    """
    shape = x.shape
    places = math.prod(shape[len(shape) - 1 - min(rows, len(shape) - 2) : -1]) if rows > 0 else 1
    count = math.prod(shape[:-1]) // places
    sets: Floats = x.reshape(count, places, groups, shape[-1] // groups)
    center = by == "deviation"
    mean, squares = _at_one_place(sets, center=center) if rows == 0 else _of_all_places(sets, center=center)
    f = factor(by, squares, places * sets.shape[-1], eps)
    m = mean.astype(np.float32)
    y: Floats = ((sets - m[:, None, :, None]) * f[:, None, :, None]).reshape(count, places, shape[-1])
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y.reshape(shape)


def _at_one_place(sets: Floats, *, center: bool) -> tuple[Doubles, Doubles]:
    """Means and sums of squares of [sets, 1, groups, n]; what the rounding of the mean adds is taken away again."""
    x, n = sets[:, 0], sets.shape[-1]
    mean: Doubles = total(x) / n if center else np.zeros(x.shape[:-1])
    m = mean.astype(np.float32)
    rounded = mean - m.astype(np.float64)
    squares = total_of_squares(x - m[..., None]) - n * (rounded * rounded)
    return mean, np.where(squares < 0, 0.0, squares)


def _of_all_places(sets: Floats, *, center: bool) -> tuple[Doubles, Doubles]:
    """Means and sums of squares of [sets, places, groups, n], all in float64."""
    x = np.moveaxis(sets, 1, 0).astype(np.float64)
    count = x.shape[0] * x.shape[-1]
    mean: Doubles = total(one_by_one(x)) / count if center else np.zeros(x.shape[1:-1])
    difference = x - mean[..., None]
    return mean, total(one_by_one(difference * difference))


def factor(by: str, squares: Doubles, count: int, eps: float) -> Floats:
    """1/√(squares/count + eps), or 1/max(√squares, eps) of "norm", in float64, each root of a float32 number."""
    f = np.float32
    if by == "norm":
        norm = np.sqrt(squares.astype(f).astype(np.float64)).astype(f)
        return (1.0 / np.where(norm < f(eps), f(eps), norm).astype(np.float64)).astype(f)
    mean_square = (squares / count).astype(f).astype(np.float64)
    return (1.0 / np.sqrt(mean_square + np.float64(f(eps)))).astype(f)
