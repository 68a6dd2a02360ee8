"""Histograms of weights and activations, small enough to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import Histogram

BINS = 64


def plain(x: Tensor) -> Histogram | None:
    """Return the histogram of the finite numbers of a tensor; None if there are none."""
    x = x.detach().flatten()
    x = x[x.isfinite()].float()
    if x.numel() == 0:
        return None
    low, high = _ends(x)
    return Histogram(low, high, (_counts(x, low, high),))


def of_levels(x: Tensor, level: Tensor, values: Tensor) -> Histogram | None:
    """Return the histogram of a tensor with one series for each level that its numbers are quantized to.

    Args:
        x: any shape.
        level: of each number the index of its level; same shape.
        values: of each number what it is quantized to; same shape. A level's value is their mean: scales may differ
            from channel to channel.
    """
    keep = x.isfinite()
    x, level, values = x.detach()[keep].float(), level[keep], values[keep].double()
    if x.numel() == 0:
        return None
    low, high = _ends(x)
    series = [level == index for index in level.unique().tolist()]
    counts = tuple(_counts(x[members], low, high) for members in series)
    return Histogram(low, high, counts, tuple(float(values[members].mean()) for members in series))


def merged(one: Histogram, other: Histogram) -> Histogram:
    """Return the histogram of both; counts go to the bins that the middles of their old bins lie in."""
    low, high = min(one.low, other.low), max(one.high, other.high)
    counts = [0] * BINS
    for histogram in (one, other):
        width = (histogram.high - histogram.low) / BINS
        for bin_index, count in enumerate(histogram.counts[0]):
            middle = histogram.low + (bin_index + 0.5) * width
            counts[min(BINS - 1, int((middle - low) / (high - low) * BINS))] += count
    return Histogram(low, high, (tuple(counts),))


def _ends(x: Tensor) -> tuple[float, float]:
    """Where the bins begin and end: never at the same place."""
    low, high = float(x.min()), float(x.max())
    width = abs(low) * 1e-3 + 1e-6 if low == high else 0.0
    return low - width, high + width


def _counts(x: Tensor, low: float, high: float) -> tuple[int, ...]:
    if x.numel() == 0:
        return (0,) * BINS
    place = ((x.double() - low) / (high - low) * BINS).long().clamp_(0, BINS - 1)
    return tuple(torch.bincount(place, minlength=BINS).tolist())
