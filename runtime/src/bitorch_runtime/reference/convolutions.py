"""Sums of products, of codes and of floats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .sliding import windows


def _product(pixels: NDArray[Any], weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """Σ_c weight[n, c]·pixels[…, c] within each group: [B, H, W, C] and [N, C/groups] give [B, H, W, N]."""
    grouped_pixels = pixels.reshape(*pixels.shape[:3], groups, weight.shape[1])
    grouped_weight = weight.reshape(groups, len(weight) // groups, weight.shape[1])
    product: NDArray[Any] = np.einsum("bhwgc,gnc->bhwgn", grouped_pixels, grouped_weight)
    return product.reshape(*pixels.shape[:3], len(weight))


def conv2d_codes(
    codes: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    sign_activations: bool = False,
    zero_point: int = 0,
) -> Integers:
    """D = Σ c·q, or Σ c·(q − zero_point), exactly.

    Args:
        codes: q, [B, H, W, C].
        weight: weight codes c, [N, kernel_h, kernel_w, C/groups].
        sign_activations: codes 0 and 1 mean −1 and +1. Borders contribute 0 all the same.
        zero_point: the code that means 0. Borders contribute 0, whatever it is.

    Returns:
        int64 [B, Ho, Wo, N].
    """
    q = codes.astype(np.int64)
    c = weight.astype(np.int64)
    values = 2 * q - 1 if sign_activations else q - zero_point
    taps = windows(values, c.shape[1:3], stride, padding, dilation)
    d: Integers = reduce(np.add, (_product(pixels, c[:, i, j], groups) for i, j, pixels in taps))
    return d


def conv2d_float(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Floats:
    """Σ w·x, summed in float64 and rounded once: x [B, H, W, C], weight [N, kernel_h, kernel_w, C/groups]."""
    w = weight.astype(np.float64)
    taps = windows(x.astype(np.float64), w.shape[1:3], stride, padding, dilation)
    total: NDArray[np.float64] = reduce(np.add, (_product(pixels, w[:, i, j], groups) for i, j, pixels in taps))
    return total.astype(np.float32)
