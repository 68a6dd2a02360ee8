"""Thresholds: where the codes of a monotone chain change, found by asking the model's own modules.

A chain such as scale, BatchNorm, ReLU, quantizer is a staircase in each channel: its code rises or falls with its
argument, because every operation does and rounding keeps order. Bisection finds each step exactly, so comparing with
these thresholds gives the model's codes by construction, ties, negative slopes and roundings included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph.chains import probe

#: Of float32, as an ordered integer: see `_to_float`.
_INFINITY = 0x7F800000
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Staircase:
    """Codes as comparisons: code = number of j with x ≥ thresholds[c, j], or x ≤ thresholds[c, j] where descending[c].

    Attributes:
        thresholds: [C, n], int32 or float32, never falling with j; never rising in descending channels. A float32 one
            that is NaN, behind all others, is one that no number reaches: ±inf are numbers that a chain may reach.
        descending: bool [C].
        table: uint8 [n + 1], or [C, n + 1] of each channel's own, the codes by that number; None: it is the code.
    """

    thresholds: Tensor
    descending: Tensor
    table: Tensor | None = None


def integer_staircase(
    codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], levels: int, low: int, high: int
) -> Staircase:
    """Find the thresholds of a chain that reads integers D.

    Args:
        codes: D as float32 [P, C, 1…] to codes 0 … levels, monotone in every channel.
        shape: of one image, [C, …], or () of one number.
        low, high: the least and largest D that can be reached. A code that no D gives has a threshold beyond them,
            which int32 still holds: ±(2^31 − 1) is a prime, and so no sum of weight codes times activation codes.
    """

    def codes_at(d: Tensor) -> Tensor:  # the layer rounds D to float32 once, where it is beyond 2^24
        return codes(probe(d.to(torch.float32), shape)).reshape(d.shape)

    return _search(codes_at, (*shape, 1)[0], levels, low, high, lambda d: d.clamp(-_INT32_MAX - 1, _INT32_MAX).int())


def float_staircase(codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], levels: int) -> Staircase:
    """Find the thresholds of a chain that reads float32, −inf and inf among them; arguments as in `integer_staircase`.

    No number may become NaN on the chain: see `makes_nan`.
    """

    def codes_at(ordered: Tensor) -> Tensor:
        return codes(probe(_to_float(ordered), shape)).reshape(ordered.shape)

    def to_threshold(ordered: Tensor) -> Tensor:
        value = _to_float(ordered.clamp(-_INFINITY, _INFINITY)) + 0.0  # −0 becomes +0
        return value.masked_fill(ordered.abs() > _INFINITY, torch.nan)

    return _search(codes_at, (*shape, 1)[0], levels, -_INFINITY, _INFINITY, to_threshold)


def makes_nan(codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], low: float, high: float) -> bool:
    """Say whether a chain of monotone operations gives NaN for a number between two, themselves included.

    NaN comes of infinities only, inf·0 and inf − inf, and what a monotone operation makes infinite lies at an end.
    """
    ends = torch.tensor([[low], [high]], dtype=torch.float32).repeat(1, (*shape, 1)[0])
    return bool(codes(probe(ends, shape)).isnan().any())


def _to_float(ordered: Tensor) -> Tensor:
    """The float32 of an integer: i ≥ 0 has the bits of i, and −i is its negative. The order is the same."""
    magnitude = ordered.abs().to(torch.int32).view(torch.float32)
    return torch.where(ordered < 0, -magnitude, magnitude)


def _search(
    codes_at: Callable[[Tensor], Tensor],
    channels: int,
    levels: int,
    low: int,
    high: int,
    to_threshold: Callable[[Tensor], Tensor],
) -> Staircase:
    """Bisect all channels and levels at once; codes_at: int64 [P, C] to codes [P, C]."""
    ends = codes_at(torch.tensor([[low], [high]]).expand(2, channels))
    descending = ends[0] > ends[1]
    level = torch.arange(1, levels + 1).unsqueeze(1)  # [n, 1]

    def reached(x: Tensor) -> Tensor:  # x [n, C], mirrored in descending channels
        return codes_at(torch.where(descending, low + high - x, x)) >= level

    # Invariant: not reached below `first`, reached from `after` on; high + 1 is never asked for.
    first = torch.full((levels, channels), low)
    after = torch.full((levels, channels), high + 1)
    while bool((first < after).any()):
        middle = (first + after).div(2, rounding_mode="floor").clamp(max=high)
        is_reached = reached(middle)
        after = torch.where(is_reached & (first < after), middle, after)
        first = torch.where(~is_reached & (first < after), middle + 1, first)
    at = torch.where(descending, low + high - after, after)  # a level never reached: beyond the end
    return Staircase(to_threshold(at).t().contiguous(), descending)
