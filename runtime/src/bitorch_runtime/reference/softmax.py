"""Softmax over the last axis, and its logarithm, in float32: each sum has one order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .basics import Floats
from .functions import fused, rest, small_exponential, times_power, whole_part

_LANES, _BLOCK = 16, 64


def _sum(values: Floats) -> NDArray[np.float64]:
    """Sum the last axis: blocks of 64, whose 16 lanes each add four; their lanes by Kahan's rule; these in float64."""
    length = values.shape[-1]
    count = -(-length // _BLOCK)
    padded = np.zeros((*values.shape[:-1], count * _BLOCK), np.float32)
    padded[..., :length] = values
    blocks = padded.reshape(*values.shape[:-1], count, _BLOCK // _LANES, _LANES)
    total = np.zeros((*values.shape[:-1], _LANES), np.float32)
    excess = np.zeros_like(total)
    for i in range(blocks.shape[-3]):
        lanes = blocks[..., i, :, :]
        term = ((lanes[..., 0, :] + lanes[..., 1, :]) + lanes[..., 2, :]) + lanes[..., 3, :] - excess
        with_term = total + term
        excess = (with_term - total) - term
        total = with_term
    wide = total.astype(np.float64) - excess
    while wide.shape[-1] > 1:
        half = wide.shape[-1] // 2
        wide = wide[..., :half] + wide[..., half:]
    return wide


def _shifted_exponential(x: Floats, largest: Floats) -> Floats:
    """e^(x − largest), of the difference before it is rounded."""
    t = x - largest
    back = t - x
    low = (x - (t - back)) - (largest + back)
    k = whole_part(t)
    power = times_power(small_exponential(rest(t, k) + low) + np.float32(1), k)
    return np.where(t < np.float32(-104), np.float32(0), power)


def _log_of_one_plus(wide: NDArray[np.float64]) -> Floats:
    """ln(1 + u) in float64, rounded to float32; u ≥ 0 or NaN."""
    m, k = np.frexp(1 + wide)  # of [0.5, 1)
    m, k = np.where(2 * m > 1.4142135623730951, m, 2 * m), np.where(2 * m > 1.4142135623730951, k, k - 1)
    is_small = wide <= 0.4142135623730951
    f = np.where(is_small, wide / (wide + 2), (m - 1) / (m + 1))
    square, total = f * f, np.zeros_like(f)
    for j in range(21, 0, -2):
        total = total * square + 1 / j
    whole = np.where(is_small, 0, k) * float.fromhex("0x1.62e42fefa39efp-1")
    y: Floats = (whole + 2 * f * total).astype(np.float32)
    return y


def softmax(x: Floats, log: bool = False) -> Floats:
    """e^x / Σ e^x over the last axis, or its natural logarithm; NaN where a row has NaN, inf, or only −inf."""
    numbers = np.where(np.isnan(x), np.float32(-np.inf), x)
    largest = numbers.max(axis=-1, keepdims=True)
    powers = _shifted_exponential(x, largest)
    if not log:
        inverse = 1 / _sum(powers)
        factor = inverse.astype(np.float32)
        return fused(powers, factor, powers * (inverse - factor).astype(np.float32))
    # The first of the largest is left out: what the others sum to may be lost beside its e^0.
    first = np.expand_dims((x == largest).argmax(axis=-1), -1)
    is_first = (np.arange(x.shape[-1]) == first) & (x == largest)
    others = _sum(powers - is_first.astype(np.float32))
    y: Floats = (x - largest) - _log_of_one_plus(others)
    return y
