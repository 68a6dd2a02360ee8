"""Weights on a balanced grid, whose clipping value is learned: ParetoQ's SEQ.

Liu et al. 2025, https://arxiv.org/abs/2502.02631.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import gradient_inside
from .bits import FLOAT_BITS, check_bits
from .learned_levels import LearnedLevels
from .range_fit import SMALLEST
from .ranges import at_least_smallest


class _BalancedCodes(Function):
    """Odd codes of a weight, for half the clipping value's levels on either side of 0; ∂(code·α/2^k)/∂α."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor, clip: Tensor, half: int, factor: float) -> Tensor:
        ctx.save_for_backward(weight, clip)
        ctx.half, ctx.factor, ctx.dtype = half, factor, alpha.dtype
        return _odd(weight / clip, half)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        weight, clip = ctx.saved_tensors
        u = weight / clip
        inside = gradient_inside(output_gradient, u, -1, 1)
        of_inside = inside * u.clamp(-1, 1)  # clipped, so that no 0 meets an infinity
        each = _odd(u, ctx.half).div_(2 * ctx.half).mul_(output_gradient).sub_(of_inside)
        axes = tuple(range(1, weight.dim())) if clip.dim() > 0 else tuple(range(weight.dim()))
        alpha_gradient = each.sum(axes, keepdim=clip.dim() > 0).mul_(ctx.factor)
        return inside, alpha_gradient.to(ctx.dtype), None, None, None


def _odd(u: Tensor, half: int) -> Tensor:
    """Return 2·⌊u·half⌋ + 1, −(2·half − 1) … 2·half − 1; half is a power of two, so that nothing is rounded twice."""
    return (u * half).floor_().clamp_(-half, half - 1).mul_(2).add_(1)


class WeightSEQ(LearnedLevels):
    """Weights to 2^bits levels at equal distances, half of them on either side of 0 (ParetoQ's SEQ).

    Liu et al. 2025, "ParetoQ: Scaling Laws in Extremely Low-bit LLM Quantization", https://arxiv.org/abs/2502.02631,
    "Stretched Elastic Quant". The paper has it at 2 bits, where the levels are ±α/4 and ±3α/4. With k bits and the
    clipping value α:

        ŵ = α·(⌊clip(w/α, −1, 1)·2^(k−1)⌋ + ½)/2^(k−1), the highest level at and above α
        ∂ŵ/∂w = 1[−1 ≤ w/α ≤ 1],   ∂ŵ/∂α = ŵ/α − w/α inside, ŵ/α = ±(1 − 2^−k) outside

    The gradient of α is multiplied by 1/√(N·Q_P), Q_P = 2^(k−1) − 1 and at least 1, N weights that share it: LSQ's
    factor. α starts at max|w|.
    Codes: the odd integers −n, −n + 2, …, n, n = 2^k − 1 (grid "odd"). Scale: α/2^k.
    On the border of two levels w gets the upper one; the paper rounds half to even there.
    At 0: code 1, so +α/2^k, also for −0.0. All zeros: the same, and α starts as for weights of up to 1/√K, K inputs per
    output, so that they can learn. An α at 0 or below counts as 2^-60. NaN stays NaN, ±inf saturates.
    At 1 bit: ±α/2, +α/2 at 0. α starts at 2·mean|w| then, so that the levels are ±mean|w|, as the paper's are.
    bits=32: unchanged, without a grid.

    The Parameter `alpha`, float32, 0-dim or [channels], is set by `initialize_`: a layer does so when it gets the
    quantizer, and when it loads a weight without it, as from a float model. Other bits leave it where it is. It does
    not train where it belongs to a layer whose weight does not when it gets the quantizer.

    Args:
        bits: 1…8, or 32 for none.
        channels: None for one α; else the number of output channels, dim 0 of the weight.

    Raises:
        ValueError, TypeError: bits outside the set, channels below 1; a weight that is not floating point, or has
            another number of channels.
    """

    name = "weightseq"
    grid = "odd"
    _learned_name = "clipping value"

    def __init__(self, bits: int, channels: int | None = None) -> None:
        super().__init__(bits, channels)
        self.alpha = self._unset()

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else 2**self.bit_width - 1

    def set_bits_(self, bits: int) -> None:
        """Change the bits; the clipping value stays."""
        self.bit_width = check_bits(bits)

    def _start(self, weight: Tensor) -> bool:
        if weight.numel() == 0:
            return False
        rows = self._rows(weight.float().abs())
        sizes = 2 * rows.mean(1) if self.bit_width == 1 else rows.amax(1)
        usual = 1 / math.sqrt(math.prod(weight.shape[1:]))
        self.alpha.data.copy_(torch.where(sizes > SMALLEST, sizes, usual).view(self.alpha.shape))
        return True

    def _clip(self, weight: Tensor) -> Tensor:
        """Return α as it broadcasts against the weight, in its dtype, without gradient."""
        return at_least_smallest(self._broadcast(self.alpha, weight)).to(weight.dtype)

    def _scale(self, weight: Tensor) -> Tensor:
        return self._clip(weight) * 2.0**-self.bit_width

    def _codes(self, weight: Tensor) -> Tensor:
        alpha, half = self._broadcast(self.alpha, weight), 1 << self.bit_width - 1
        codes: Tensor = _BalancedCodes.apply(weight, alpha, self._clip(weight), half, self._factor(weight))
        return codes
