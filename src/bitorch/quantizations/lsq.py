"""Activations with a learned step, LSQ, and a learned offset, LSQ+.

Esser et al. 2019, https://arxiv.org/abs/1902.08153; Bhalgat et al. 2020, LSQ+, https://arxiv.org/abs/2004.09576.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .arithmetic import Arithmetic
from .base import as_internal, gradient_inside
from .own_arguments import arguments_of
from .power_of_two import nearest_power
from .range_fit import Fit, fit_symmetric, fit_unsigned, fit_with_offset
from .ranges import RangeQuantization, at_least_smallest, codes_at, position


class _InputCodes(Function):
    """Codes of activations; gradients as `InputLSQ` has them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        step: Tensor,
        offset: Tensor | None,
        zero: Tensor | None,
        n: int,
        factor: float,
        power: Tensor | None,
    ) -> Tensor:
        s = at_least_smallest(step).to(x.dtype) if power is None else power
        width = s * n
        ctx.save_for_backward(x, width, zero)
        ctx.n, ctx.factor, ctx.dtypes = n, factor, (step.dtype, None if offset is None else offset.dtype)
        if power is None:
            return codes_at(position(x, width, zero, n), zero, n)
        # x/s is exact, so that only one number is rounded.
        lowest = torch.zeros_like(power) if zero is None else -zero
        return (x / power).round_().clamp_(lowest, lowest + n)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None, None]:
        x, width, zero = ctx.saved_tensors
        n = ctx.n
        u = position(x, width, zero, n)
        inside = gradient_inside(output_gradient, u, 0, 1)
        # Stored code less n·u where inside: 0 below and n above. Dot products of what is there already, in place of a
        # tensor for each factor; u is clipped first, so that no 0 meets an infinity.
        of_inside = _dot(inside, u.clamp_(0, 1))
        step_gradient = _dot(output_gradient, codes_at(u, None, n)) - n * of_inside
        of_step, of_offset = ctx.dtypes
        offset_gradient = None
        if zero is not None:
            outside = output_gradient.sum() - inside.sum()
            if of_offset is not None:
                offset_gradient = (ctx.factor * outside).to(of_offset)
            else:  # the bounds are −z·s and (n − z)·s, and move with s
                step_gradient = step_gradient - zero * outside
        return inside, (ctx.factor * step_gradient).to(of_step), offset_gradient, None, None, None, None


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Σ one·other, without a tensor of products where both lie in memory alike."""
    if one.is_contiguous() and other.is_contiguous():
        return torch.dot(one.flatten(), other.flatten())
    if one.dim() == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in (one, other)):
        return torch.dot(one.permute(0, 2, 3, 1).flatten(), other.permute(0, 2, 3, 1).flatten())
    return (one * other).sum()


class InputLSQ(RangeQuantization):
    """Activations to 2^bits levels with a learned step, and with offset=True a learned offset (LSQ+).

    LSQ, with step s, code bounds −Q_N … Q_P and y = x/s:

        x̂ = s·round(clip(y, −Q_N, Q_P))
        ∂x̂/∂x = 1[−Q_N ≤ y ≤ Q_P],   ∂x̂/∂s = round(y) − y inside, −Q_N below, Q_P above

    Unsigned, Q_N = 0 and Q_P = n = 2^bits − 1, or signed, Q_N = 2^(bits−1) and Q_P = 2^(bits−1) − 1: `fit_` takes what
    has the smaller error on the inputs seen. At 1 bit always unsigned: 0 and s; a signed range of more bits keeps its
    upper end then, and is signed again when it gets more bits again.

    LSQ+ with offset β and v = (x − β)/s:

        x̂ = s·round(clip(v, 0, n)) + β
        ∂x̂/∂s = round(v) − v inside, 0 below, n above,   ∂x̂/∂β = 1 where clipped, else 0

    Here β is rounded to a multiple of s, the zero point z = clip(round(−β/s), 0, n), so that 0.0 is a level and a layer
    computes on the integers q − z; the gradients pass that rounding straight through.

    Gradients of s and β are multiplied by 1/√(N·Q_P), N numbers in one sample's input. s is the Parameter `step`,
    β the Parameter `offset`, both 0-dim. `fit_` starts both with the range of least error (LSQ+, section 3),
    where LSQ takes 2·mean|x|/√Q_P. With power_of_two=True s is the power of two nearest to `step` in its exponent,
    2^⌊log2(step) + ½⌋, which the gradients pass straight through, and x/s is exact. A step at 0 or below counts as
    2^-60. bits=32: the identity. The rest: see `RangeQuantization`.
    """

    name = "lsq"

    def __init__(
        self,
        bits: int,
        *,
        offset: bool = False,
        calibration: str = "mse",
        percentile: float = 99.9,
        power_of_two: bool = False,
    ) -> None:
        super().__init__(bits, calibration=calibration, percentile=percentile)
        self.power_of_two = power_of_two
        self.step = nn.Parameter(torch.tensor(float("nan")))
        self.offset = nn.Parameter(torch.tensor(0.0)) if offset else None
        self.moves_zero = offset
        if not offset:
            self.register_buffer("range_zero", torch.tensor(0.0))

    range_zero: Tensor

    def _step(self) -> Tensor:
        """s, without gradient."""
        step = at_least_smallest(self.step)
        return nearest_power(step) if self.power_of_two else step

    def width(self) -> Tensor:
        return self._step() * (self.levels() if self.max_code is None else self.max_code)

    def arithmetic(self) -> Arithmetic | None:
        if not self.power_of_two or self.max_code is None or self.not_ready() is not None:
            return super().arithmetic()
        step = self.scale(torch.zeros(1))
        return Arithmetic("round", self.bit_width, divide=step, zero_point=self.zero_point(), step=step)

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        self._check_set()
        return self._step().to(as_internal(x, "InputLSQ").dtype)

    def zero(self) -> Tensor:
        n = self.levels() if self.max_code is None else self.max_code
        if self.offset is None:  # at 1 bit it only says that the range is signed with more
            return self.range_zero if n > 1 else torch.zeros_like(self.range_zero)
        return (-self.offset.detach() / self._step()).round_().clamp_(0, n)

    def fitted(self, x: Tensor, n: int) -> Fit:
        if self.offset is not None:
            return fit_with_offset(x, n, self.calibration, self.percentile)
        if n == 1 or not bool((x < 0).any()):
            return fit_unsigned(x, n, self.calibration, self.percentile)
        fits = [fit_symmetric(x, n, self.calibration, self.percentile)]
        if bool((x > 0).any()):
            fits.append(fit_unsigned(x, n, self.calibration, self.percentile))
        return min(fits, key=lambda fit: fit.error)

    def take_(self, fit: Fit, n: int) -> None:
        step = fit.width / n
        self.step.data.fill_(step)
        if self.offset is None:
            self.range_zero.fill_(fit.zero)
        else:
            self.offset.data.fill_(-fit.zero * step)

    def rescale_(self, old: int, new: int) -> None:
        factor = old / new
        if self.offset is None and bool(self.range_zero != 0):
            if 1 in (old, new):  # 0 and s: what is left of the range is its upper part
                factor = max(1, old // 2) / max(1, new // 2)
            self.range_zero.fill_((new + 1) // 2)
        self.step.data.mul_(factor)

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        self._check_set()
        x = as_internal(x, "InputLSQ")
        zero = self.zero().to(x.dtype) if self._is_offset else None
        largest = self.max_code
        if self.offset is None and zero is not None:
            largest //= 2
        features = x.numel() // x.shape[0] if x.dim() > 1 and x.shape[0] > 0 else x.numel()
        factor = 1 / math.sqrt(max(1, features) * largest)
        power = self._step().to(x.dtype) if self.power_of_two else None
        codes: Tensor = _InputCodes.apply(x, self.step, self.offset, zero, self.max_code, factor, power)
        return codes

    def arguments(self) -> dict[str, Any]:
        return arguments_of(self, offset=self.offset is not None)

    def extra_repr(self) -> str:
        power = ", power_of_two=True" if self.power_of_two else ""
        return f"{super().extra_repr()}, offset={self.offset is not None}{power}"
