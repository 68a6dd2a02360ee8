"""Weights with a learned step: LSQ.

Esser et al. 2019, https://arxiv.org/abs/1902.08153.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import Grid, gradient_inside
from .bits import FLOAT_BITS, check_bits
from .learned_levels import LearnedLevels, positive
from .levels import sign_plus
from .power_of_two import nearest_power
from .range_fit import SMALLEST, least_error_steps
from .ranges import FINEST, at_least_smallest


class _WeightCodes(Function):
    """Codes of a weight, 0-dim step or [C_out, 1, …]; ∂(code·s)/∂s as of activations."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, s: Tensor, low: int, high: int, factor: float) -> Tensor:
        ctx.save_for_backward(weight, s)
        ctx.bounds, ctx.factor, ctx.dtype = (low, high), factor, step.dtype
        return sign_plus(weight) if low == -high else (weight / s).clamp_(low, high).round_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        weight, s = ctx.saved_tensors
        low, high = ctx.bounds
        y = weight / s
        inside = gradient_inside(output_gradient, y, low, high)
        of_inside = inside * y.clamp_(low, high)  # clipped, so that no 0 meets an infinity
        each = (sign_plus(weight) if low == -high else y.round_()).mul_(output_gradient).sub_(of_inside)
        axes = tuple(range(1, weight.dim())) if s.dim() > 0 else tuple(range(weight.dim()))
        step_gradient = each.sum(axes, keepdim=s.dim() > 0).mul_(ctx.factor)
        return inside, step_gradient.to(ctx.dtype), None, None, None, None


class WeightLSQ(LearnedLevels):
    """Weights to 2^bits levels with a learned step, for the layer or for each output channel (LSQ).

        ŵ = s·round(clip(w/s, −Q_N, Q_P)),   Q_N = 2^(bits−1),   Q_P = 2^(bits−1) − 1
        ∂ŵ/∂w = 1[−Q_N ≤ w/s ≤ Q_P],   ∂ŵ/∂s = round(w/s) − w/s inside, −Q_N below, Q_P above

    The gradient of s is multiplied by 1/√(N·Q_P), N weights that share it. s starts at 2·mean|w|/√Q_P. Where half of
    those weights or more are exactly 0, as after pruning, that would clip the others, and s starts where their squared
    error Σ(ŵ − w)² is least.
    At 1 bit, which the paper has not: ŵ = s·sign⁺(w), Q_N = Q_P = 1, and s starts at mean|w|, zeros included, which is
    the least squared error.
    Codes: −Q_N … Q_P with a zero level (grid "signed"); ±1 at 1 bit (grid "odd"). Scale: s.
    At 0: code 0; +1 at 1 bit. All zeros: the same, and the step starts as for weights of about 1/(2√K), K inputs per
    output, so that they can leave 0; at 1 bit, where no level is 0, it starts at 2^-60. A step at 0 or below counts as
    2^-60. NaN stays NaN, ±inf saturates.
    bits=32: unchanged, without a grid.

    The Parameter `step`, float32, 0-dim or [channels], is set by `initialize_`: a layer does so when it gets the
    quantizer, and when it loads a weight without the step, as from a float model. It does not train where it belongs to
    a layer whose weight does not when it gets the quantizer.

    Args:
        bits: 1…8, or 32 for none.
        channels: None for one step; else the number of output channels, dim 0 of the weight.
        power_of_two: whether s is the power of two nearest to `step` in its exponent, 2^⌊log2(step) + ½⌋; the gradient
            of s is that of the Parameter then, so that rounding passes it straight through.

    Raises:
        ValueError, TypeError: bits outside the set, channels below 1; a weight that is not floating point, or has
            another number of channels.
    """

    name = "weightlsq"

    def __init__(self, bits: int, channels: int | None = None, power_of_two: bool = False) -> None:
        super().__init__(bits, channels)
        self.power_of_two = power_of_two
        self.step = self._unset()
        #: The bits that the step belongs to; kept in the state_dict.
        self.register_buffer("step_bits", torch.tensor(min(self.bit_width, FINEST), dtype=torch.uint8))

    step_bits: Tensor

    @property
    def grid(self) -> Grid:  # type: ignore[override]  # of the class it is the default
        return "odd" if self.bit_width == 1 else "signed"

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else -_bounds(self.bit_width)[0]

    def _start(self, weight: Tensor) -> bool:
        if weight.numel() == 0:
            return False
        w = weight.float()
        rows = self._rows(w)
        bits = FINEST if self.bit_width == FLOAT_BITS else self.bit_width
        sizes = rows.abs().mean(1)
        usual = 0.5 / math.sqrt(math.prod(w.shape[1:]))
        steps = torch.where(sizes > SMALLEST, sizes, usual if bits > 1 else SMALLEST) * _start(bits)
        if bits > 1:
            sparse = ((rows == 0).sum(1) * 2 >= rows.shape[1]) & (sizes > SMALLEST) & sizes.isfinite()
            if bool(sparse.any()):
                steps[sparse] = least_error_steps(rows[sparse], *_bounds(bits))
        self.step.data.copy_(steps.view(self.step.shape))
        self.step_bits.fill_(bits)
        return True

    def set_bits_(self, bits: int) -> None:
        """Change the bits; the step changes as its start would, so what was learned stays as a factor."""
        self.bit_width = check_bits(bits)
        self._follow_bits()

    def _follow_bits(self) -> None:
        old, new = int(self.step_bits), self.bit_width
        if self._is_set and new not in (FLOAT_BITS, old):
            is_untrained = self.is_untrained
            self.step.data.mul_(_start(new) / _start(old))
            self.step_bits.fill_(new)
            if is_untrained:
                self._remember_start()

    def _loaded(self) -> None:
        super()._loaded()
        self._follow_bits()

    def _scale(self, weight: Tensor) -> Tensor:
        s = at_least_smallest(self._broadcast(self.step, weight))
        return (nearest_power(s) if self.power_of_two else s).to(weight.dtype)

    def _codes(self, weight: Tensor) -> Tensor:
        step, bounds = self._broadcast(self.step, weight), _bounds(self.bit_width)
        codes: Tensor = _WeightCodes.apply(weight, step, self._scale(weight), *bounds, self._factor(weight))
        return codes

    def extra_repr(self) -> str:
        return super().extra_repr() + (", power_of_two=True" if self.power_of_two else "")


def _start(bits: int) -> float:
    """Where a step starts, in units of mean|w|."""
    return 2 / math.sqrt(positive(bits)) if bits > 1 else 1.0


def _bounds(bits: int) -> tuple[int, int]:
    """−Q_N and Q_P."""
    return (-1, 1) if bits == 1 else (-(1 << bits - 1), (1 << bits - 1) - 1)
