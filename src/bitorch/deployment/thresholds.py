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

from .chains import probe

#: Of float32, as an ordered integer: see `_to_float`.
_LARGEST_FLOAT = 0x7F7FFFFF
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Staircase:
    """Codes as comparisons: code = number of j with x ≥ thresholds[c, j], or x ≤ thresholds[c, j] where descending[c].

    Attributes:
        thresholds: [C, n], int32 or float32, never falling with j; never rising in descending channels.
        descending: bool [C].
    """

    thresholds: Tensor
    descending: Tensor


def integer_staircase(
    codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], levels: int, low: int, high: int
) -> Staircase:
    """Find the thresholds of a chain that reads integers D.

    Args:
        codes: D as float32 [P, C, 1…] to codes 0 … levels, monotone in every channel.
        shape: of one image, [C, …], or () of one number.
        low, high: the least and largest D that can be reached.
    """

    def codes_at(d: Tensor) -> Tensor:  # the layer rounds D to float32 once, where it is beyond 2^24
        return codes(probe(d.to(torch.float32), shape)).reshape(d.shape)

    return _search(codes_at, (*shape, 1)[0], levels, low, high, lambda d: d.clamp(-_INT32_MAX - 1, _INT32_MAX).int())


def float_staircase(codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], levels: int) -> Staircase:
    """Find the thresholds of a chain that reads float32; arguments as in `integer_staircase`."""

    def codes_at(ordered: Tensor) -> Tensor:
        return codes(probe(_to_float(ordered), shape)).reshape(ordered.shape)

    def to_threshold(ordered: Tensor) -> Tensor:
        value = _to_float(ordered.clamp(-_LARGEST_FLOAT, _LARGEST_FLOAT)) + 0.0  # −0 becomes +0
        value[ordered > _LARGEST_FLOAT] = torch.inf
        value[ordered <= -_LARGEST_FLOAT] = -torch.inf
        return value

    return _search(codes_at, (*shape, 1)[0], levels, -_LARGEST_FLOAT, _LARGEST_FLOAT, to_threshold)


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
