"""Ternary weights whose two levels are learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from .base import as_internal
from .learned_start import LearnedStart


class _TernaryValues(Function):
    """W_p for w > Δ, −W_n for w < −Δ, else 0; the gradients are in WeightTTQ's docstring."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, positive: Tensor, negative: Tensor, threshold: Tensor) -> Tensor:
        is_positive, is_negative = weight > threshold, weight < -threshold
        ctx.save_for_backward(is_positive, is_negative, positive, negative)
        # 0·Δ is 0, or NaN where NaN or inf in the weight would not be seen.
        return torch.where(is_positive, positive, torch.where(is_negative, -negative, 0 * threshold))

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        is_positive, is_negative, positive, negative = ctx.saved_tensors
        factor = torch.where(is_positive, positive, torch.where(is_negative, negative, 1))
        to_positive = torch.where(is_positive, output_gradient, 0).sum()
        to_negative = torch.where(is_negative, -output_gradient, 0).sum()
        return output_gradient * factor, to_positive, to_negative, None


class WeightTTQ(LearnedStart):
    """Weights to −W_n, 0 and W_p, both learned (TTQ).

    Zhu et al. 2016, "Trained Ternary Quantization", https://arxiv.org/abs/1612.01064:

    Forward: W_p for w > Δ, −W_n for w < −Δ, else 0, with Δ = t·max|w| over the whole weight.
    Backward: with I_p and I_n the positions where w > Δ and w < −Δ,
      ∂L/∂W_p = Σ_{i ∈ I_p} g_i,
      ∂L/∂W_n = −Σ_{i ∈ I_n} g_i, because the value is −W_n (the paper's eq. 7 leaves the minus out),
      ∂L/∂w = W_p·g for w > Δ, g for |w| ≤ Δ, W_n·g for w < −Δ (eq. 8). Δ is a constant.
    At 0: 0. All zeros: all 0, and the gradient is g. NaN or inf in the weight makes every 0 NaN.
    W_p and W_n are two scales, so there is no grid of integers: layers compute on the values, and such a layer cannot
    be deployed. The bits are fixed: 2.

    The Parameters `positive_scale` and `negative_scale`, 0-dim, are set by `initialize_`: a layer does so when it gets
    the quantizer, and when it loads a state_dict without them, as that of a float model.

    Args:
        threshold: t, 0 ≤ t < 1.

    Raises:
        ValueError: threshold outside the range. RuntimeError: quantizing before there are scales.
        TypeError: a weight that is not floating point.
    """

    name = "weightttq"
    bit_width = 2
    is_pointwise = False
    no_grid = "has two scales, W_p and W_n"

    def __init__(self, threshold: float = 0.05) -> None:
        super().__init__()
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, a part of max|w|; got {threshold}")
        self.threshold = threshold
        self.positive_scale = nn.Parameter(torch.full((), torch.nan))
        self.negative_scale = nn.Parameter(torch.full((), torch.nan))

    def _start(self, weight: Tensor) -> bool:
        """W_p and W_n are the means of |w| over w > Δ and over w < −Δ; 0 where there is no such w."""
        delta = self._delta(weight)
        for scale, is_over in ((self.positive_scale, weight > delta), (self.negative_scale, weight < -delta)):
            scale.data.copy_((weight.abs() * is_over).sum() / is_over.sum().clamp(min=1))
        return True

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight of any shape; see the class for the formula."""
        if not self._is_set:
            raise RuntimeError(
                "WeightTTQ has no W_p and W_n yet; call initialize_(weight), give it to a layer, or load a state_dict"
            )
        weight = as_internal(x, "WeightTTQ")
        scales = (scale.to(weight.dtype) for scale in (self.positive_scale, self.negative_scale))
        value: Tensor = _TernaryValues.apply(weight, *scales, self._delta(weight.detach()))
        return value.to(x.dtype)

    def _delta(self, weight: Tensor) -> Tensor:
        return self.threshold * weight.abs().amax() if weight.numel() > 0 else weight.new_zeros(())

    def extra_repr(self) -> str:
        return f"bits=2, threshold={self.threshold}"
