"""Ternary weights of BitNet b1.58: the mean of |w| is the scale, and half of it the threshold."""

from __future__ import annotations

from torch import Tensor

from .levels import divide
from .ternary_weight import TernaryWeight


class WeightAbsMean(TernaryWeight):
    """Weights to −γ, 0 and γ (BitNet b1.58).

    Ma et al. 2024, "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits",
    https://arxiv.org/abs/2402.17764, equations 1 to 3: γ·RoundClip(w/γ, −1, 1). A quotient is rounded to ±1 where it is
    beyond ½, and so:

    Forward: γ·sign(w)·1[|w| > γ/2], γ = mean|w|. Codes −1, 0, 1; scale γ.
    Backward: g. γ is a constant of it.
    Statistics run over the whole weight, over each output channel (dimension 0) with per_channel, or over each group of
    inputs; the scale is then of shape [channels, 1, …], or of the weight's, of which each number is its group's.
    At 0: 0. All zeros: all 0, γ = 0, and the gradient is g. A constant c: all c. The bits are fixed: the codes take 2.
    NaN or inf in the weight makes γ NaN or inf, and the values NaN but for those that are inf.

    The paper adds a small ε to γ in the quotient, against γ = 0, where there is no quotient here.

    Args:
        per_channel: whether each output channel has a scale of its own.
        group_size: how many inputs of an output channel share a scale, as WeightAbsMax has it; None: no groups.

    Raises:
        ValueError: a group size below 1, or one that does not divide the number of inputs.
        TypeError: a group size that is no integer; a weight that is not floating point.
    """

    name = "weightabsmean"

    def _threshold(self, weight: Tensor) -> Tensor:
        return self._mean(weight) * 0.5  # exact, but of the least subnormal number

    def _scale(self, weight: Tensor) -> Tensor:
        return self._mean(weight)

    def _mean(self, weight: Tensor) -> Tensor:
        return divide(self._sum(weight.abs()), self._count(weight))
