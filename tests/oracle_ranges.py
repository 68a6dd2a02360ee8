"""Quantizers with a range or a step of their own, as their papers define them: plain float64 NumPy, slow and obvious.

PACT: Choi et al. 2018, https://arxiv.org/abs/1805.06085. LSQ: Esser et al. 2019, https://arxiv.org/abs/1902.08153.
LSQ+: Bhalgat et al. 2020, https://arxiv.org/abs/2004.09576. Nothing here is taken from the package, and nothing here
may call it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oracle import Floats, round_half_even, sign_plus


@dataclass(frozen=True)
class Grid:
    """Levels step·(0 − zero) … step·(n − zero)."""

    step: float
    zero: int
    n: int

    def position(self, x: Floats) -> Floats:
        """x/step + zero, neither clipped nor rounded."""
        position: Floats = x / self.step + self.zero
        return position

    def stored(self, x: Floats) -> Floats:
        """The integers 0 … n."""
        return round_half_even(np.clip(self.position(x), 0, self.n))

    def codes(self, x: Floats) -> Floats:
        """The integers −zero … n − zero: 0 stands for 0.0."""
        return self.stored(x) - self.zero

    def value(self, x: Floats) -> Floats:
        """The level of each number."""
        return self.step * self.codes(x)

    def inside(self, x: Floats) -> Floats:
        """1 where x is not clipped, bounds included."""
        position = self.position(x)
        return ((position >= 0) & (position <= self.n)).astype(np.float64)


def pact_alpha_gradient(x: Floats, alpha: float, g: Floats) -> float:
    """Eq. 3: Σ g·1[x ≥ α]."""
    return float(np.sum(g * (x >= alpha)))


def lsq_step_gradient(x: Floats, grid: Grid, g: Floats, numbers: int) -> float:
    """LSQ's eq. 3 times its gradient scale: round(y) − y inside, −Q_N below and Q_P above."""
    y = x / grid.step
    low, high = -grid.zero, grid.n - grid.zero
    each = np.where(y < low, low, np.where(y > high, high, round_half_even(y) - y))
    return float(np.sum(g * each) / np.sqrt(numbers * high))


def lsq_plus_gradients(x: Floats, grid: Grid, g: Floats, numbers: int) -> tuple[float, float]:
    """Gradients of step and offset: LSQ+, eq. 4 and 5, for an offset of −zero·step, bounds 0 and n.

    With v = (x − β)/s: ∂x̂/∂s = round(v) − v inside, 0 below, n above; ∂x̂/∂β = 0 inside, else 1.
    """
    v = (x + grid.zero * grid.step) / grid.step
    of_step = np.where(v < 0, 0, np.where(v > grid.n, grid.n, round_half_even(v) - v))
    of_offset = ((v < 0) | (v > grid.n)).astype(np.float64)
    scale = 1 / np.sqrt(numbers * grid.n)
    return float(np.sum(g * of_step) * scale), float(np.sum(g * of_offset) * scale)


# Weights with a learned step; `step` is a number, or broadcasts against the weight


def weight_bounds(k: int) -> tuple[int, int]:
    """−Q_N and Q_P: −2^(k−1) and 2^(k−1) − 1, or ±1 at one bit."""
    return (-1, 1) if k == 1 else (-(2 ** (k - 1)), 2 ** (k - 1) - 1)


def weight_codes(w: Floats, step: Floats, k: int) -> Floats:
    """round(clip(w/s, −Q_N, Q_P)), or the sign at one bit."""
    return sign_plus(w) if k == 1 else round_half_even(np.clip(w / step, *weight_bounds(k)))


def weight_gradient(w: Floats, step: Floats, k: int, g: Floats) -> Floats:
    """g·1[−Q_N ≤ w/s ≤ Q_P]."""
    low, high = weight_bounds(k)
    return np.where((w / step >= low) & (w / step <= high), g, 0.0)


def weight_step_gradient(w: Floats, step: Floats, k: int, g: Floats) -> Floats:
    """Gradient of the step, of its shape, times 1/√(N·Q_P), N weights that share a step."""
    low, high = weight_bounds(k)
    y = w / step
    each = np.where(y < low, low, np.where(y > high, high, weight_codes(w, step, k) - y))
    axes = tuple(range(w.ndim)) if np.ndim(step) == 0 else tuple(range(1, w.ndim))
    shared = w.size // np.size(step)
    gradient: Floats = np.sum(g * each, axis=axes, keepdims=np.ndim(step) > 0) / np.sqrt(shared * high)
    return gradient


def weight_start(w: Floats, k: int) -> float:
    """Where LSQ starts the step: 2·mean|w|/√Q_P; mean|w| at one bit. All zeros count as weights of 1/(2√K)."""
    mean = np.mean(np.abs(w))
    if mean == 0:
        mean = 1 / (2 * np.sqrt(np.prod(w.shape[1:])))
    return float(mean if k == 1 else 2 * mean / np.sqrt(2 ** (k - 1) - 1))


# ParetoQ's balanced grid, https://arxiv.org/abs/2502.02631; `alpha` is a number, or broadcasts against the weight


def seq_codes(w: Floats, alpha: Floats, k: int) -> Floats:
    """2·⌊clip(w/α, −1, 1)·2^(k−1)⌋ + 1, and the highest code where the clip is at its upper end."""
    codes: Floats = np.minimum(2 * np.floor(np.clip(w / alpha, -1, 1) * 2 ** (k - 1)) + 1, 2**k - 1)
    return codes


def seq_value(w: Floats, alpha: Floats, k: int) -> Floats:
    """α·(⌊…⌋ + ½)/2^(k−1)."""
    value: Floats = alpha * (seq_codes(w, alpha, k) / 2) / 2 ** (k - 1)
    return value


def seq_gradients(w: Floats, alpha: Floats, k: int, g: Floats) -> tuple[Floats, Floats]:
    """g·1[−α ≤ w ≤ α], and Σ g·(ŵ/α − (w/α)·1[−α ≤ w ≤ α])/√(N·Q_P) in α's shape, N weights that share one."""
    inside = np.abs(w) <= alpha
    each = g * (seq_value(w, alpha, k) / alpha - np.where(inside, w / alpha, 0.0))
    axes = tuple(range(w.ndim)) if np.ndim(alpha) == 0 else tuple(range(1, w.ndim))
    of_alpha: Floats = np.sum(each, axis=axes, keepdims=np.ndim(alpha) > 0)
    return np.where(inside, g, 0.0), of_alpha / np.sqrt(w.size // np.size(alpha) * max(1, 2 ** (k - 1) - 1))


# Fits


def squared_error(x: Floats, grid: Grid) -> float:
    """Mean squared difference of numbers and their levels."""
    return float(np.mean((grid.value(x) - x) ** 2))
