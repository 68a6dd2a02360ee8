"""Where a grid should lie for numbers that were seen: the least squared error, or percentiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

#: "mse" takes the range of least mean squared error, "percentile" the one that holds this share of the numbers.
CalibrationMethod = Literal["mse", "percentile"]
#: Shares of the whole range that the search for the least error tries.
_SHARES = 128


@dataclass(frozen=True)
class Fit:
    """A grid: code j of 0 … n stands for (j − zero)·width/n.

    Attributes:
        width: of the range, from the lowest level to the highest; above 0.
        zero: the code that stands for 0.
        error: mean squared error over the numbers that were seen.
    """

    width: float
    zero: int
    error: float


def check_calibration(calibration: str, percentile: float) -> CalibrationMethod:
    """Return the method, or raise ValueError for one that does not exist or a percentile that is none."""
    if calibration not in get_args(CalibrationMethod):
        raise ValueError(f"calibration must be one of {', '.join(get_args(CalibrationMethod))}, got {calibration!r}")
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile must be above 50 and at most 100, got {percentile}")
    return calibration  # type: ignore[return-value]  # just checked


def fit_unsigned(x: Tensor, n: int, calibration: CalibrationMethod, percentile: float) -> Fit:
    """Return the grid of levels 0 … width for numbers x [count], of which those below 0 count as 0."""
    highest = _quantile(x, percentile) if calibration == "percentile" else float(x.max())
    return _best(x, 0.0, highest, n, 0, calibration)


def fit_symmetric(x: Tensor, n: int, calibration: CalibrationMethod, percentile: float) -> Fit:
    """Return the grid with zero in its middle, code (n + 1)/2, for numbers x [count]."""
    sizes = x.abs()
    largest = _quantile(sizes, percentile) if calibration == "percentile" else float(sizes.max())
    zero = (n + 1) // 2
    return _best(x, -largest, largest * (n - zero) / zero if n > 1 else largest, n, zero, calibration)


def fit_with_offset(x: Tensor, n: int, calibration: CalibrationMethod, percentile: float) -> Fit:
    """Return the grid from about the least of the numbers x [count] to about the largest, 0 being one of its levels."""
    if calibration == "percentile":
        low, high = -_quantile(-x, percentile), _quantile(x, percentile)
    else:
        low, high = float(x.min()), float(x.max())
    low, high = min(low, 0.0), max(high, 0.0)
    return _best(x, low, high, n, None, calibration)


def _quantile(x: Tensor, percentile: float) -> float:
    """The percentile by counting: torch.quantile takes no more than 16 million numbers."""
    count = x.numel()
    rank = min(count, max(1, round(percentile / 100 * count)))
    return float(x.kthvalue(rank).values)


def _best(x: Tensor, low: float, high: float, n: int, zero: int | None, calibration: CalibrationMethod) -> Fit:
    """Return the grid over low … high, or over the share of it that has the least error; zero None follows from low."""
    if not high > low or not high - low < float("inf"):
        raise ValueError(f"the range collapses: the inputs seen lie in {low:g} … {high:g}")
    shares = torch.tensor([1.0]) if calibration == "percentile" else torch.arange(1, _SHARES + 1) / _SHARES
    fits = [_fit(x, low * share, high * share, n, zero) for share in shares.tolist()]
    return min(fits, key=lambda fit: fit.error)


def _fit(x: Tensor, low: float, high: float, n: int, zero: int | None) -> Fit:
    width = high - low
    at = round(-low / width * n) if zero is None else zero
    codes = (x * (n / width) + at).round_().clamp_(0, n)
    error = (codes - at).mul_(width / n).sub_(x).square_().mean()
    return Fit(width, at, float(error))
