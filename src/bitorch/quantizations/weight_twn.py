"""Ternary weights by a threshold, with a scale that is a statistic of the weight."""

from __future__ import annotations

from torch import Tensor

from .ternary_weight import TernaryWeight


class WeightTWN(TernaryWeight):
    """Weights to −α, 0 and α (TWN).

    Li et al. 2016, "Ternary Weight Networks", https://arxiv.org/abs/1605.04711. With the paper's approximation of the
    threshold that is best for a normal distribution:

    Forward: α·sign(w)·1[|w| > Δ], Δ = 0.7·mean|w|, α = mean of |w| over |w| > Δ. Codes −1, 0, 1; scale α.
    Backward: g. Δ and α are constants of it.
    Statistics run over the whole weight, over each output channel (dimension 0) with per_channel, or over each group of
    inputs; the scale is then of shape [channels, 1, …], or of the weight's, of which each number is its group's.
    At 0: 0. All zeros: all 0, α = 0, and the gradient is g. A constant c: all c. The bits are fixed: the codes take 2.
    NaN or inf in the weight makes α NaN, and so every value that it scales.

    Args:
        per_channel: whether each output channel has a threshold and a scale of its own.
        group_size: how many inputs of an output channel have one of each, as WeightAbsMax has it; None: no groups.

    Raises:
        ValueError: a group size below 1, or one that does not divide the number of inputs.
        TypeError: a group size that is no integer; a weight that is not floating point.
    """

    name = "weighttwn"

    def _threshold(self, weight: Tensor) -> Tensor:
        return self._sum(weight.abs()) * (0.7 / self._count(weight))

    def _scale(self, weight: Tensor) -> Tensor:
        magnitude = weight.abs()
        over = magnitude > self._threshold(weight)
        # A product instead of where(): NaN and inf stay visible.
        return self._sum(magnitude * over) / self._sum(over.to(weight.dtype)).clamp_(min=1)
