"""Heaviside step to ±1 with a clipped straight-through gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .arithmetic import Arithmetic
from .base import STE, as_internal, gradient_inside
from .levels import sign_plus
from .sign_grid import SignGrid


class SteHeavisideFunction(STE):
    """+1 for x > 0, else −1 forward; g·1[|x| ≤ 1] backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor) -> Tensor:
        ctx.save_for_backward(input_tensor)
        return -sign_plus(-input_tensor)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient_inside(output_gradient, x, -1, 1)


class SteHeaviside(SignGrid):
    """Forward: +1 for x > 0, else −1: unlike the other signs, 0 goes to −1. Codes ±1, scale 1.

    Backward: g·1[|x| ≤ 1]. All zeros: all −1. NaN stays NaN.
    """

    name = "steheaviside"

    def arithmetic(self) -> Arithmetic | None:
        return Arithmetic("heaviside", 1)

    def codes(self, x: Tensor) -> Tensor:
        codes: Tensor = SteHeavisideFunction.apply(as_internal(x, "SteHeaviside"))
        return codes
