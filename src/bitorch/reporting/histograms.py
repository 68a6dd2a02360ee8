"""Histograms of weights and activations, small enough to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import Histogram

BINS = 64
#: Numbers that are looked at together: a weight may have a hundred millions.
_PIECE = 2**22


def plain(x: Tensor) -> Histogram | None:
    """Return the histogram of the finite numbers of a tensor; None if there are none."""
    x = x.detach().flatten()
    ends = _ends(x)
    if ends is None:
        return None
    counts = torch.zeros(BINS, dtype=torch.int64)
    for piece in x.split(_PIECE):
        counts += torch.bincount(_bins(piece[piece.isfinite()], ends), minlength=BINS)
    return Histogram(*ends, (tuple(counts.tolist()),))


def of_levels(x: Tensor, codes: Tensor, values: Tensor) -> Histogram | None:
    """Return the histogram of a tensor with one series for each code that occurs, from the lowest to the highest.

    Args:
        x: any shape.
        codes: of each number, integers; same shape. NaN belongs to none.
        values: of each number what it is quantized to; same shape. A level's value is their mean: scales may differ
            from channel to channel.
    """
    x, codes, values = (tensor.detach().flatten() for tensor in (x, codes, values))
    ends, codes_ends = _ends(x), _ends(codes)
    if ends is None or codes_ends is None:
        return None
    first, last = round(codes_ends[0]), round(codes_ends[1])
    counts = torch.zeros((last - first + 1) * BINS, dtype=torch.int64)
    sums = torch.zeros(last - first + 1, dtype=torch.float64)
    for numbers, code, value in zip(*(tensor.split(_PIECE) for tensor in (x, codes, values)), strict=True):
        keep = numbers.isfinite() & code.isfinite()
        level = code[keep].long() - first
        counts += torch.bincount(level * BINS + _bins(numbers[keep], ends), minlength=len(counts))
        sums += torch.bincount(level, weights=value[keep].double(), minlength=len(sums))
    series = counts.view(-1, BINS)
    sizes = series.sum(1)
    occur = sizes > 0
    levels = (sums[occur] / sizes[occur]).tolist()
    return Histogram(*ends, tuple(map(tuple, series[occur].tolist())), tuple(levels))


def together(histogram: Histogram) -> Histogram:
    """Return the histogram with all its series as one, and without levels."""
    counts = tuple(map(sum, zip(*histogram.counts, strict=True)))
    return Histogram(histogram.low, histogram.high, (counts,))


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


def _ends(x: Tensor) -> tuple[float, float] | None:
    """Where the bins begin and end: never at the same place. None if nothing is finite."""
    finite = x if bool(x.isfinite().all()) else x[x.isfinite()]
    if finite.numel() == 0:
        return None
    low, high = float(finite.min()), float(finite.max())
    width = abs(low) * 1e-3 + 1e-6 if low == high else 0.0
    return low - width, high + width


def _bins(x: Tensor, ends: tuple[float, float]) -> Tensor:
    """The bin of each number."""
    low, high = ends
    return ((x.double() - low) / (high - low) * BINS).long().clamp_(0, BINS - 1)
