"""The numbers of the methods beside DoReFa as their papers define them, in plain float64 NumPy; see oracle.py.

Each function is a formula written down as it stands. Nothing here is taken from the package, and nothing here may call
it.
"""

from __future__ import annotations

import math

import numpy as np

from oracle import Floats, round_half_even, sign_plus

# Ternary weights, https://arxiv.org/abs/1605.04711


def _over_channels(w: Floats, per_channel: bool) -> list[Floats]:
    """What shares a threshold and a scale: the whole weight, or each output channel."""
    return list(w) if per_channel else [w]


def twn_threshold(w: Floats) -> float:
    """Δ = 0.7·mean|w|."""
    return 0.7 * float(np.mean(np.abs(w)))


def twn_codes(w: Floats, per_channel: bool) -> Floats:
    """sign(w)·1[|w| > Δ]."""
    parts = [np.sign(part) * (np.abs(part) > twn_threshold(part)) for part in _over_channels(w, per_channel)]
    return np.stack(parts) if per_channel else parts[0]


def twn_scales(w: Floats, per_channel: bool) -> list[float]:
    """α = mean of |w| over |w| > Δ, of each group; 0 where there is none."""
    scales = []
    for part in _over_channels(w, per_channel):
        over = np.abs(part)[np.abs(part) > twn_threshold(part)]
        scales.append(float(np.mean(over)) if over.size else 0.0)
    return scales


# BitNet b1.58, https://arxiv.org/abs/2402.17764


def absmean_codes(w: Floats, per_channel: bool) -> Floats:
    """RoundClip(w/γ, −1, 1), γ = mean|w|; 0 where γ is 0."""
    parts = [np.clip(np.rint(part / (np.mean(np.abs(part)) or 1.0)), -1, 1) for part in _over_channels(w, per_channel)]
    return np.stack(parts) if per_channel else parts[0]


def absmean_scales(w: Floats, per_channel: bool) -> list[float]:
    """γ of each group."""
    return [float(np.mean(np.abs(part))) for part in _over_channels(w, per_channel)]


# Absmax by blocks, https://arxiv.org/abs/2212.09720


def absmax(w: Floats, bits: int, rows: int) -> tuple[Floats, Floats]:
    """Codes, and scales s = max|w|/n of each of `rows` equal runs of the weight; ŵ = s·clip(round(w/s), −n, n).

    At 1 bit s = mean|w| and codes sign⁺(w). Codes are 0 where s is 0.
    """
    runs = w.reshape(rows, -1)
    if bits == 1:
        return sign_plus(w), np.abs(runs).mean(axis=1)
    n = 2 ** (bits - 1) - 1
    scales = np.abs(runs).max(axis=1) / n
    quotients = runs / np.where(scales == 0, 1, scales)[:, np.newaxis]
    return np.clip(round_half_even(quotients), -n, n).reshape(w.shape), scales


# Trained ternary weights, https://arxiv.org/abs/1612.01064


def ttq_value(w: Floats, positive: float, negative: float, t: float) -> Floats:
    """W_p for w > Δ, −W_n for w < −Δ, else 0, with Δ = t·max|w|."""
    delta = t * np.max(np.abs(w))
    value = np.zeros_like(w)
    value[w > delta] = positive
    value[w < -delta] = -negative
    return value


def ttq_gradients(w: Floats, g: Floats, positive: float, negative: float, t: float) -> tuple[Floats, float, float]:
    """∂L/∂w, ∂L/∂W_p, ∂L/∂W_n."""
    delta = t * np.max(np.abs(w))
    to_weight = g.copy()
    to_weight[w > delta] *= positive
    to_weight[w < -delta] *= negative
    return to_weight, float(np.sum(g[w > delta])), -float(np.sum(g[w < -delta]))


def ttq_scales(w: Floats, t: float) -> tuple[float, float]:
    """What W_p and W_n start with: the means of |w| over w > Δ and over w < −Δ."""
    delta = t * np.max(np.abs(w))
    above, below = w[w > delta], -w[w < -delta]
    return (float(np.mean(above)) if above.size else 0.0, float(np.mean(below)) if below.size else 0.0)


# ReActNet, https://arxiv.org/abs/2003.03488; the channels are in axis 1


def _per_channel(values: Floats, x: Floats) -> Floats:
    return values.reshape(-1, *[1] * (x.ndim - 2))


def rsign_value(x: Floats, shift: Floats) -> Floats:
    """sign⁺(x − α_c)."""
    return sign_plus(x - _per_channel(shift, x))


def rsign_gradients(x: Floats, shift: Floats, g: Floats) -> tuple[Floats, Floats]:
    """g·(2 − 2|x − α|)·1[|x − α| ≤ 1] for x, and minus its sum over each channel for α."""
    distance = np.abs(x - _per_channel(shift, x))
    to_input = np.where(distance <= 1, g * (2 - 2 * distance), 0.0)
    return to_input, -np.sum(to_input, axis=tuple(axis for axis in range(x.ndim) if axis != 1))


def rprelu_value(x: Floats, shift_in: Floats, slope: Floats, shift_out: Floats) -> Floats:
    """x − γ + ζ for x > γ, β·(x − γ) + ζ else."""
    gamma, beta, zeta = (_per_channel(values, x) for values in (shift_in, slope, shift_out))
    value: Floats = np.where(x > gamma, x - gamma + zeta, beta * (x - gamma) + zeta)
    return value


# Gradients


def sample_maximum(g: Floats) -> Floats:
    """max|g| of each sample."""
    maximum: Floats = np.max(np.abs(g), axis=tuple(range(1, g.ndim)), keepdims=True)
    return maximum


def signed_value(g: Floats, k: int) -> Floats:
    """(m/q)·round(g·q/m) with q = 2^(k−1) − 1; samples that are all zero stay so."""
    m, q = sample_maximum(g), 2 ** (k - 1) - 1
    value: Floats = round_half_even(g * q / np.where(m == 0, 1, m)) * m / q
    return value


def luq_levels(m: float, k: int) -> list[float]:
    """0 and ±α·2^i, i = 0 … r, with r = 2^(k−1) − 2 and α = m/2^r; sorted."""
    r = 2 ** (k - 1) - 2
    positive = [m / 2**r * 2**i for i in range(r + 1)]
    return [*(-level for level in reversed(positive)), 0.0, *positive]


def neighbours(value: float, levels: list[float]) -> tuple[float, float]:
    """The nearest levels at or below a value, and at or above it."""
    return max(level for level in levels if level <= value), min(level for level in levels if level >= value)


def luq_nearest(value: float, m: float, k: int) -> float:
    """The nearest level, of two that are as near the one that is farther from 0."""
    lower, upper = neighbours(abs(value), luq_levels(m, k))
    nearest = upper if abs(value) >= (lower + upper) / 2 else lower
    return math.copysign(nearest, value)
