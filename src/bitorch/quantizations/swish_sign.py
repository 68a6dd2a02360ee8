"""Sign with the gradient of SignSwish."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import STE, as_internal
from .config import config
from .levels import sign_plus
from .sign_grid import SignGrid


class SwishSignFunction(STE):
    """sign⁺(x) forward, the derivative of SignSwish with steepness beta backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, beta: float = 1.0) -> Tensor:
        ctx.save_for_backward(input_tensor)
        ctx.beta = beta
        return sign_plus(input_tensor)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # Beyond ±80 the factor is 0 to 30 digits, and inf would make it inf/inf.
        z = (ctx.beta * x).clamp(-80, 80)
        return output_gradient * (ctx.beta * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z))), None


class SwishSign(SignGrid):
    """Forward: sign⁺(x), +1 for x ≥ 0 (also −0.0), else −1. Codes ±1, scale 1.

    Backward: g·β(2 − βx·tanh(βx/2)) / (1 + cosh βx) (Darabi et al. 2018, BNN+, https://arxiv.org/abs/1812.11800), so
    β·g at 0. All zeros: all +1. NaN stays NaN.

    Args:
        beta: steepness β; None takes `bitorch.quantizations.config.config.beta`.
    """

    name = "swishsign"

    def __init__(self, beta: float | None = None) -> None:
        super().__init__()
        self.beta = config.beta if beta is None else beta

    def codes(self, x: Tensor) -> Tensor:
        codes: Tensor = SwishSignFunction.apply(as_internal(x, "SwishSign"), self.beta)
        return codes

    def extra_repr(self) -> str:
        return f"beta={self.beta}"
