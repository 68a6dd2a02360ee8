"""What follows a sum: float stages and quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers, levels


def relu(y: Floats) -> Floats:
    """max(y, 0); NaN stays NaN, and −0 stays −0, as in PyTorch."""
    return at_least(y, 0)


def at_least(y: Floats, low: float) -> Floats:
    """low where y < low, else y: unlike np.maximum it says which zero leaves where −0 meets 0."""
    limited: Floats = np.where(y < np.float32(low), np.float32(low), y)
    return limited


def at_most(y: Floats, high: float) -> Floats:
    """high where y > high, else y."""
    limited: Floats = np.where(y > np.float32(high), np.float32(high), y)
    return limited


def fused_multiply_add(x: Floats, multiply: Floats, offset: Floats) -> Floats:
    """x·multiply + offset, rounded to float32 once.

    The product is exact in float64. Their sum may not be: what it lost (Knuth's two-sum) decides its last bit, which is
    odd unless the sum is exact. Such a sum is never taken for one in the middle of two float32 numbers when it is not
    there, so rounding it again gives what rounding once would.
    """
    product = x.astype(np.float64) * multiply
    addend = np.broadcast_to(offset.astype(np.float64), product.shape)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    inexact = (lost != 0) & np.isfinite(total)
    even = total.view(np.int64) % 2 == 0
    odd = np.where(inexact & even, np.nextafter(total, np.copysign(np.inf, lost)), total)
    return odd.astype(np.float32)


def float_stage(
    x: NDArray[Any],
    multiply: Floats | None,
    offset: Floats | None,
    residual: Floats | None = None,
    rectify: bool = False,
    norm: tuple[Floats, Floats] | None = None,
) -> Floats:
    """y = float32(x)·multiply + offset, then norm, then + residual, then max(y, 0); every step rounds to float32.

    Args:
        x: D or float sums, [B, H, W, N].
        multiply, offset: float32 [N], both or neither.
        residual: float32, shape of x.
        norm: norm_multiply and norm_offset, float32 [N]: y·norm_multiply + norm_offset is a single step.
    """
    y = x.astype(np.float32)
    if multiply is not None and offset is not None:
        y = y * multiply
        y = y + offset
    if norm is not None:
        y = fused_multiply_add(y, *norm)
    if residual is not None:
        y = y + residual
    return relu(y) if rectify else y


def apply_thresholds(
    x: NDArray[Any], thresholds: NDArray[Any], descending: NDArray[np.bool_] | None = None
) -> Integers:
    """Codes by comparison: q = number of j with x ≥ thresholds[c, j], or x ≤ thresholds[c, j] where descending[c].

    Args:
        x: D or y, [B, H, W, C]. NaN gives code 0.
        thresholds: [C, n], int32 for D, float32 for y. No x reaches one that is NaN.
        descending: bool [C]; None means ascending everywhere.
    """
    falls = np.zeros(x.shape[-1], np.bool_) if descending is None else descending.astype(np.bool_)
    codes = np.zeros(x.shape, np.int64)
    for threshold in thresholds.T:
        codes += np.where(falls, x <= threshold, x >= threshold)
    return codes


def round_quantize(y: Floats, bits: int, zero_point: int) -> Integers:
    """q = clip(round(y) + zero_point, 0, n), half to even. NaN gives code 0."""
    position: Floats = np.clip(np.rint(y), -zero_point, levels(bits) - zero_point) + np.float32(zero_point)
    return np.where(np.isnan(position), 0, position).astype(np.int64)


def unit_quantize(y: Floats, bits: int) -> Integers:
    """q = round(n·clip(y, 0, 1)), half to even. NaN gives code 0."""
    position: Floats = np.rint(np.float32(levels(bits)) * np.clip(y, np.float32(0), np.float32(1)))
    return np.where(np.isnan(position), 0, position).astype(np.int64)
