"""Activations over a range 0 … α whose end is learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import as_internal, gradient_inside
from .range_fit import Fit, fit_unsigned
from .ranges import RangeQuantization, at_least_smallest, codes_at, position


class _PACTCodes(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, n: int) -> Tensor:
        width = at_least_smallest(alpha).to(x.dtype)
        ctx.save_for_backward(x, width)
        ctx.dtype = alpha.dtype
        return codes_at(position(x, width, None, n), None, n)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, width = ctx.saved_tensors
        u = position(x, width, None, 1)
        inside = gradient_inside(output_gradient, u, 0, 1)
        above = (u >= 1).to(u.dtype).mul_(output_gradient).sum()
        return inside, above.to(ctx.dtype), None


class InputPACT(RangeQuantization):
    """Activations to 2^bits levels in [0, α] with a learned α; see `RangeQuantization` for the arguments.

    PACT (Choi et al. 2018, https://arxiv.org/abs/1805.06085), eq. 1–3, with n = 2^bits − 1:

        y = clip(x, 0, α),   y_q = round(y·n/α)·α/n
        ∂y_q/∂x = 1[0 ≤ x ≤ α],   ∂y_q/∂α = 1[x ≥ α]

    α is the Parameter `alpha`, 0-dim; `fit_` starts it where the inputs are, the paper at one constant. The paper also
    puts an L2 penalty on it, which is the optimizer's weight decay. Codes 0 … n, scale α/n. An α at 0 or below counts
    as 2^-60. bits=32: ReLU.
    """

    name = "pact"

    def __init__(self, bits: int, *, calibration: str = "mse", percentile: float = 99.9) -> None:
        super().__init__(bits, calibration=calibration, percentile=percentile)
        self.alpha = nn.Parameter(torch.tensor(float("nan")))

    @property
    def clips_negative(self) -> bool:
        return True

    def width(self) -> Tensor:
        return at_least_smallest(self.alpha)

    def zero(self) -> Tensor:
        return torch.zeros_like(self.alpha.detach())

    def fitted(self, x: Tensor, n: int) -> Fit:
        return fit_unsigned(x, n, self.calibration, self.percentile)

    def take_(self, fit: Fit, n: int) -> None:
        self.alpha.data.fill_(fit.width)

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        self._check_set()
        codes: Tensor = _PACTCodes.apply(as_internal(x, "InputPACT"), self.alpha, self.max_code)
        return codes
