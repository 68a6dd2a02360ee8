"""Scales that are powers of two, so that scaling is exact, and a shift in hardware."""

from __future__ import annotations

import torch
from torch import Tensor

#: Exponents of the scale: the smallest that a quantizer has, and float32's largest.
LEAST, _LARGEST = 2.0**-60, 2.0**127
#: Of `power_of_two`, where that is the nearest in its exponent.
NEAREST = 0.5**0.5


def power_of_two(size: Tensor, half: float) -> Tensor:
    """Return 2^k for size = m·2^k with half < m ≤ 2·half, between the least and the largest; NaN for NaN and inf.

    size/m is 2^k exactly, where a library's log2 and exp2 might round.
    """
    mantissa, _ = torch.frexp(size.clamp(min=LEAST))  # ½ ≤ mantissa < 1
    power = size.clamp(min=LEAST) / mantissa
    power = torch.where(mantissa <= half, power / 2, power).clamp(max=_LARGEST)
    return torch.where(size.isfinite(), power, torch.nan)


def nearest_power(size: Tensor) -> Tensor:
    """Return the power of two that is nearest in its exponent, 2^⌊log2(size) + ½⌋; NaN for NaN and inf."""
    return power_of_two(size, NEAREST)
