"""Where a grid should lie for numbers that were seen: the least squared error, or percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

#: "mse" takes the range of least mean squared error, "percentile" the one that holds this share of the numbers.
CalibrationMethod = Literal["mse", "percentile"]
#: Steps below this count as this much, so that no reciprocal is infinite.
SMALLEST = 2.0**-60
#: Numbers of each channel that the search for a weight's step looks at, at most.
_IN_A_ROW = 2**16
#: Shares of the whole range that the search for the least error tries, and how often it then improves on the best.
_SHARES, _REFINEMENTS = 128, 20


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
    return _best(x, 0.0, max(highest, 0.0), n, 0, calibration)


def fit_symmetric(x: Tensor, n: int, calibration: CalibrationMethod, percentile: float) -> Fit:
    """Return the grid with zero in its middle, code (n + 1)/2, for numbers x [count]; n is at least 3."""
    zero = (n + 1) // 2
    steps = torch.maximum(x / (n - zero), x / -zero)  # that each number needs
    step = _quantile(steps, percentile) if calibration == "percentile" else float(steps.max())
    return _best(x, -zero * step, (n - zero) * step, n, zero, calibration)


def fit_with_offset(x: Tensor, n: int, calibration: CalibrationMethod, percentile: float) -> Fit:
    """Return the grid from about the least of the numbers x [count] to about the largest, 0 being one of its levels."""
    if calibration == "percentile":
        each = (100 + percentile) / 2  # half of what is left out lies at either end
        low, high = -_quantile(-x, each), _quantile(x, each)
    else:
        low, high = float(x.min()), float(x.max())
    low, high = min(low, 0.0), max(high, 0.0)
    return _best(x, low, high, n, None, calibration)


def _quantile(x: Tensor, percentile: float) -> float:
    """The percentile by counting: torch.quantile takes no more than 16 million numbers."""
    count = x.numel()
    rank = min(count, math.ceil(percentile / 100 * count))
    return float(x.kthvalue(rank).values)


def _best(x: Tensor, low: float, high: float, n: int, zero: int | None, calibration: CalibrationMethod) -> Fit:
    """Return the grid over low … high, or over the share of it that has the least error; zero None follows from low."""
    whole = high - low
    if not whole > n * SMALLEST:
        raise ValueError(f"the range collapses: it would be {low:g} … {high:g}")
    if whole > torch.finfo(torch.float32).max:
        raise ValueError(f"the range overflows: it would be {low:g} … {high:g}")
    x = x / whole  # so that no square of a difference is infinite, or 0
    low, high = low / whole, high / whole
    if calibration == "percentile":
        return _scaled(_fit(x, low, high, n, zero), whole)
    shares = [share / _SHARES for share in range(1, _SHARES + 1)]
    best = min((_fit(x, low * share, high * share, n, zero) for share in shares), key=lambda fit: fit.error)
    return _scaled(_refined(x, best, n), whole)


def _scaled(fit: Fit, factor: float) -> Fit:
    return Fit(fit.width * factor, fit.zero, fit.error * factor**2)


def _fit(x: Tensor, low: float, high: float, n: int, zero: int | None) -> Fit:
    width = high - low
    at = round(-low / width * n) if zero is None else zero
    return Fit(width, at, float((_codes(x, width, at, n) * (width / n)).sub_(x).square_().mean()))


def _refined(x: Tensor, fit: Fit, n: int) -> Fit:
    """Return the grid with the step of least squares for the codes that x has, again and again while that helps."""
    for _ in range(_REFINEMENTS):
        codes = _codes(x, fit.width, fit.zero, n)
        width = n * float(torch.dot(x, codes) / torch.dot(codes, codes))
        better = _fit(x, 0.0, width, n, fit.zero) if width > 0 else fit  # NaN where all codes are 0
        if not better.error < fit.error:
            return fit
        fit = better
    return fit


def _codes(x: Tensor, width: float, zero: int, n: int) -> Tensor:
    """round(clip(x·n/width + zero, 0, n)) − zero."""
    return (x * (n / width)).add_(zero).round_().clamp_(0, n).sub_(zero)


def least_error_steps(x: Tensor, low: int, high: int) -> Tensor:
    """Return the step s of least squared error of s·round(clip(x/s, low, high)) for each row of x, float32 [rows].

    Args:
        x: float32 [rows, count], finite, each row with a number besides 0. Of a long row a part is looked at.
        low, high: codes, low < 0 < high.
    """
    count = max(int((x != 0).sum(1).max()), 1)
    order = x.abs().argsort(1, descending=True)[:, : count : math.ceil(count / _IN_A_ROW)]  # zeros cost nothing
    x = x.gather(1, order)
    size = x.abs().amax(1, keepdim=True)
    x = x / size  # so that no square is infinite, or 0
    whole = torch.maximum(x / high, x / low).amax(1, keepdim=True)  # clips nothing
    best, least = whole, _step_error(x, whole, low, high)
    for share in range(1, _SHARES):
        best, least = _better(x, best, least, whole * (share / _SHARES), low, high)
    for _ in range(_REFINEMENTS):  # the step of least squares for the codes that x has
        codes = (x / best).round_().clamp_(low, high)
        squares = codes.square().sum(1, keepdim=True)
        fitted = (x * codes).sum(1, keepdim=True) / squares
        best, least = _better(x, best, least, torch.where(squares > 0, fitted, best), low, high)
    return (best * size).squeeze(1)


def _step_error(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    return (x / step).round_().clamp_(low, high).mul_(step).sub_(x).square_().sum(1, keepdim=True)


def _better(x: Tensor, best: Tensor, least: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Return step and error of those rows where the step is better, and what was best in the others."""
    error = _step_error(x, step, low, high)
    is_better = error < least
    return torch.where(is_better, step, best), torch.where(is_better, error, least)
