"""Sign with the unchanged gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import STE, as_internal
from .levels import sign_plus
from .sign_grid import SignGrid


class SignFunction(STE):
    """sign⁺(x) forward, g backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor) -> Tensor:
        return sign_plus(input_tensor)


class Sign(SignGrid):
    """Forward: sign⁺(x), +1 for x ≥ 0 (also −0.0), else −1. Codes ±1, scale 1.

    Backward: g everywhere; a layer's gradient cancellation does the clipping. All zeros: all +1. NaN stays NaN.
    """

    name = "sign"

    def codes(self, x: Tensor) -> Tensor:
        codes: Tensor = SignFunction.apply(as_internal(x, "Sign"))
        return codes
