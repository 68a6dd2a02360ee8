"""Sign with the gradient of a quadratic spline."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import STE, as_internal
from .levels import sign_plus
from .sign_grid import SignGrid


class ApproxSignFunction(STE):
    """sign⁺(x) forward, g·(2 − 2|x|)·1[|x| ≤ 1] backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor) -> Tensor:
        ctx.save_for_backward(input_tensor)
        return sign_plus(input_tensor)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        factor: Tensor = (2 - 2 * x.abs()).clamp(min=0)
        return output_gradient * factor


class ApproxSign(SignGrid):
    """Forward: sign⁺(x), +1 for x ≥ 0 (also −0.0), else −1. Codes ±1, scale 1.

    Backward: g·(2 − 2|x|)·1[|x| ≤ 1] (Liu et al. 2018, Bi-Real Net, https://arxiv.org/abs/1808.00278), so 2g at 0.
    All zeros: all +1. NaN stays NaN.
    """

    name = "approxsign"

    def codes(self, x: Tensor) -> Tensor:
        codes: Tensor = ApproxSignFunction.apply(as_internal(x, "ApproxSign"))
        return codes
