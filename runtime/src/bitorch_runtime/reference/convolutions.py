"""Sums of products, of codes and of floats, over windows along any number of axes.

Defaults of geometries are those of two axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .sliding import in_rows, windows


def _product(pixels: NDArray[Any], weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """Σ_c weight[n, c]·pixels[…, c] within each group: [B, *rows, C] and [N, C/groups] give [B, *rows, N]."""
    grouped_pixels = pixels.reshape(*pixels.shape[:-1], groups, weight.shape[1])
    grouped_weight = weight.reshape(groups, len(weight) // groups, weight.shape[1])
    sums: NDArray[Any] = np.einsum("...gc,gnc->...gn", grouped_pixels, grouped_weight)
    return sums.reshape(*pixels.shape[:-1], len(weight))


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
        codes: q, [B, *rows, C].
        weight: weight codes c, [N, *kernel, C/groups].
        sign_activations: codes 0 and 1 mean −1 and +1. Borders contribute 0 all the same.
        zero_point: the code that means 0. Borders contribute 0, whatever it is.

    Returns:
        int64 [B, *output rows, N].
    """
    c = weight.astype(np.int64)
    taps = windows(codes_mean(codes, sign_activations, zero_point), c.shape[1:-1], stride, padding, dilation)
    d: Integers = reduce(np.add, (_product(pixels, c[in_rows(tap)], groups) for tap, pixels in taps))
    return d


def codes_mean(codes: NDArray[Any], sign_activations: bool, zero_point: int) -> Integers:
    """What the codes of a low-bit layer's input stand for, int64."""
    q = codes.astype(np.int64)
    return 2 * q - 1 if sign_activations else q - zero_point


def conv2d_float(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Floats:
    """Σ w·x, summed in float64 and rounded once: x [B, *rows, C], weight [N, *kernel, C/groups]."""
    w = weight.astype(np.float64)
    taps = windows(x.astype(np.float64), w.shape[1:-1], stride, padding, dilation)
    total: NDArray[np.float64] = reduce(np.add, (_product(pixels, w[in_rows(tap)], groups) for tap, pixels in taps))
    return total.astype(np.float32)


def conv_transpose_codes(
    codes: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    sign_activations: bool = False,
    zero_point: int = 0,
) -> Integers:
    """D of a transposed convolution, exactly: tap k of pixel i goes to output i·stride + k·dilation − padding.

    Args:
        codes, weight, sign_activations, zero_point: as of `conv2d_codes`. An output that no pixel reaches is 0.
        padding: outputs that are cut off at both ends of each axis.
        output_padding: outputs that are added at the end of each axis.
    """
    values = codes_mean(codes, sign_activations, zero_point)
    return _transposed(values, weight.astype(np.int64), stride, padding, output_padding, dilation, groups)


def conv_transpose_float(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> Floats:
    """`conv_transpose_codes` of floats, summed in float64 and rounded once."""
    floats, w = x.astype(np.float64), weight.astype(np.float64)
    return _transposed(floats, w, stride, padding, output_padding, dilation, groups).astype(np.float32)


def _transposed(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> NDArray[Any]:
    kernel, rows = weight.shape[1:-1], x.shape[1:-1]
    spans = [(size - 1) * step + 1 for size, step in zip(rows, stride, strict=True)]  # of one tap
    reaches = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    whole = [a + b + more for a, b, more in zip(spans, reaches, output_padding, strict=True)]
    total = np.zeros((len(x), *whole, len(weight)), x.dtype)
    for tap in product(*map(range, kernel)):
        places = (slice(k * d, k * d + n, s) for k, d, n, s in zip(tap, dilation, spans, stride, strict=True))
        total[in_rows(places)] += _product(x, weight[in_rows(tap)], groups)
    return total[in_rows(slice(p, size - p) for p, size in zip(padding, whole, strict=True))]
