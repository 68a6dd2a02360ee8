"""The numbers as the paper defines them, in plain float64 and int64 NumPy: what the tests compare bitorch with.

Zhou et al. 2016, "DoReFa-Net", https://arxiv.org/abs/1606.06160; equation numbers are the paper's, n = 2^k − 1. Each
function is a formula written down as it stands, slow and obvious. Nothing here is taken from the package, and nothing
here may call it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
#: Padding before and after each spatial axis.
Borders: TypeAlias = Sequence[tuple[int, int]]

#: Names of numpy.pad for those of PyTorch.
_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def sign_plus(x: Floats) -> Floats:
    """+1 for x ≥ 0, also −0.0; −1 below; NaN for NaN."""
    return np.where(np.isnan(x), np.nan, np.where(x >= 0, 1.0, -1.0))


def round_half_even(position: Floats) -> Floats:
    """The rounding of eq. 5; the position is n·r."""
    return np.rint(position)


def distance_to_tie(position: Floats) -> Floats:
    """How far a position is from the nearest half integer, where another precision may round the other way."""
    return np.abs(position - np.floor(position) - 0.5)


# Activations, eq. 11


def input_position(x: Floats, k: int) -> Floats:
    """n·clip(x, 0, 1), before the rounding."""
    position: Floats = (2**k - 1) * np.clip(x, 0, 1)
    return position


def input_codes(x: Floats, k: int) -> Floats:
    """The integers 0 … n."""
    return round_half_even(input_position(x, k))


def input_value(x: Floats, k: int) -> Floats:
    """quantize_k(clip(x, 0, 1))."""
    value: Floats = input_codes(x, k) / (2**k - 1)
    return value


def input_gradient(x: Floats, g: Floats) -> Floats:
    """g·1[0 ≤ x ≤ 1]."""
    return np.where((x >= 0) & (x <= 1), g, 0.0)


# Weights, eq. 7–10


def weight_position(w: Floats, k: int) -> Floats:
    """n·(tanh w / (2·max|tanh w|) + ½), before the rounding of eq. 9."""
    t = np.tanh(w)
    m = np.max(np.abs(t))
    position: Floats = (2**k - 1) * (t / (2 * (1.0 if m == 0 else m)) + 0.5)
    return position


def odd_codes(w: Floats, k: int) -> Floats:
    """The codes of eq. 9: odd integers −n … n."""
    codes: Floats = 2 * round_half_even(weight_position(w, k)) - (2**k - 1)
    return codes


def weight_codes(w: Floats, k: int) -> Floats:
    """The codes of the paper's weights: ±1 for one bit (eq. 7), else those of eq. 9."""
    return sign_plus(w) if k == 1 else odd_codes(w, k)


def weight_scale(w: Floats, k: int) -> float:
    """What one code is worth: E = mean|w| for one bit, else 1/n."""
    return float(np.mean(np.abs(w))) if k == 1 else 1 / (2**k - 1)


def weight_value(w: Floats, k: int) -> Floats:
    """The paper's quantized weights."""
    return weight_codes(w, k) * weight_scale(w, k)


def weight_gradient(w: Floats, k: int, g: Floats) -> Floats:
    """The gradient of w, for a gradient g of the quantized weight.

    One bit: g (eq. 8). Else, with t = tanh w, m = max|t|, v = t/m and M the set of positions where |t| = m:
    ∂L/∂t_i = g_i/m − 1[i ∈ M]·sign(t_i)/|M|·Σ_j g_j·t_j/m², and ∂L/∂w = ∂L/∂t·(1 − t²).
    """
    if k == 1:
        return np.array(g)
    t = np.tanh(w)
    m = np.max(np.abs(t))
    if m == 0:
        return np.array(g)
    extreme = np.abs(t) == m
    through_max = np.sum(g * (t / m)) / m
    gradient_t = g / m - np.where(extreme, np.sign(t) * through_max / np.sum(extreme), 0.0)
    gradient: Floats = gradient_t * (1 - t**2)
    return gradient


# Gradients, eq. 12


def gradient_position(g: Floats, k: int) -> Floats:
    """n·clip(g/(2m) + ½, 0, 1) without noise, m being each sample's max|g|; NaN in samples that are all zero."""
    m = np.max(np.abs(g), axis=tuple(range(1, g.ndim)), keepdims=True)
    half = np.divide(g, 2 * m, out=np.full_like(g, np.nan), where=m > 0)
    position: Floats = (2**k - 1) * np.clip(half + 0.5, 0, 1)
    return position


def gradient_value(g: Floats, k: int) -> Floats:
    """2m·(quantize_k(clip(g/(2m) + ½, 0, 1)) − ½) without noise; samples that are all zero stay so."""
    m = np.max(np.abs(g), axis=tuple(range(1, g.ndim)), keepdims=True)
    value = 2 * m * (round_half_even(gradient_position(g, k)) / (2**k - 1) - 0.5)
    return np.where(m == 0, 0.0, value)


# Sums of integers


def linear(q: Integers, c: Integers) -> Integers:
    """Σ_i c[o, i]·q[…, i] for q [..., in] and c [out, in], in int64."""
    d: Integers = q @ c.T  # NumPy multiplies integers as integers
    return d


def pad(q: NDArray[Any], borders: Borders, value: float, mode: str = "zeros") -> NDArray[Any]:
    """Fill the borders of q [B, C, *S] with a value, or as a padding mode says."""
    widths = [(0, 0), (0, 0), *borders]
    if mode == "zeros":
        return np.pad(q, widths, mode="constant", constant_values=value)
    return np.pad(q, widths, mode=_PAD_MODES[mode])  # type: ignore[call-overload, no-any-return]  # three fixed names


def same_borders(kernel: Sequence[int], dilation: Sequence[int]) -> Borders:
    """The borders of padding="same": an odd total has the larger half behind."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def convolve(q: Integers, c: Integers, stride: Sequence[int], dilation: Sequence[int], groups: int) -> Integers:
    """Convolve q [B, C_in, *S], padded already, with c [C_out, C_in/groups, *K], in int64."""
    geometry = list(zip(q.shape[2:], c.shape[2:], stride, dilation, strict=True))
    sizes = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in geometry]
    outputs, inputs = c.shape[:2]
    y = np.zeros((q.shape[0], outputs, *sizes), dtype=np.int64)
    for offsets in itertools.product(*(range(k) for k in c.shape[2:])):
        steps = zip(offsets, sizes, stride, dilation, strict=True)
        spans = tuple(slice(o * d, o * d + (n - 1) * s + 1, s) for o, n, s, d in steps)
        index = (slice(None), slice(None), *spans)
        window = q[index]
        for output in range(outputs):
            first = output // (outputs // groups) * inputs
            for i in range(inputs):
                y[:, output] += window[:, first + i] * c[output, i][offsets]
    return y


def convolve_transposed(
    q: Integers,
    c: Integers,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Integers:
    """Transposed convolution of q [B, C_in, *S] with c [C_out, C_in/groups, *K], in int64.

    It is the convolution, with the kernel turned round, of q with stride − 1 zeros between its numbers and
    dilation·(K − 1) − padding around them, output_padding more behind; negative borders are cut off.
    """
    sizes = [(size - 1) * s + 1 for size, s in zip(q.shape[2:], stride, strict=True)]
    spread = np.zeros((*q.shape[:2], *sizes), dtype=np.int64)
    every = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    spread[every] = q
    axes = zip(c.shape[2:], padding, output_padding, dilation, strict=True)
    borders = [(d * (k - 1) - p, d * (k - 1) - p + extra) for k, p, extra, d in axes]
    spread = pad(spread, [(max(before, 0), max(after, 0)) for before, after in borders], 0)
    inside = (slice(max(-before, 0), min(after, 0) or None) for before, after in borders)  # 0 is no end
    kept = (slice(None), slice(None), *inside)
    turned = np.flip(c, tuple(range(2, c.ndim)))
    return convolve(spread[kept], turned, [1] * len(stride), dilation, groups)
