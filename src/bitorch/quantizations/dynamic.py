"""Activations with a step for each row, which is found while the net runs: dynamic quantization, per token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .arithmetic import Arithmetic
from .base import STE, CodeValue, Quantization, as_internal
from .bits import FLOAT_BITS, check_bits
from .levels import row_step


class _RowCodes(STE):
    """clip(round(x/s), −n − 1, n) forward, g backward."""

    @staticmethod
    def forward(  # type: ignore[override]  # STE with options
        ctx: Any, input_tensor: Tensor, step: Tensor, lowest: int
    ) -> Tensor:
        return (input_tensor / step).round_().clamp_(lowest, -lowest - 1)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        return output_gradient, None, None


class InputDynamic(Quantization):
    """Activations to 2^bits − 1 levels around 0, with a step for each row of the last axis: for each token.

    As in BitNet b1.58 (Ma et al. 2024, https://arxiv.org/abs/2402.17764), whose activations have 8 bits and such a
    scale for each token; elsewhere "dynamic per-token quantization" or "absmax per row".

    Forward: s·clip(round(x/s), −n − 1, n), n = 2^(bits−1) − 1, s = max|x|/n, half to even. The maximum is a row's;
    it counts as 2^−100 where it is less, and as the dtype's largest number where it is infinite. The largest number of
    a row keeps its value but for the rounding of s, and only −∞ reaches the code −n − 1. The step is no constant of the
    layer: `scale` has the shape [..., 1] of an input [..., features].
    Backward: g. No finite number is clipped, and s is a constant of it.
    At 0: 0. A row of zeros: all 0, and the gradient is g. At 1 bit there is no level but 0, so 2 bits are the fewest;
    32 give x. A NaN makes its row NaN. No range is learned or calibrated.

    It is for layers that multiply the last axis: linear layers, projections of attention, recurrent gates. A
    convolution sums over places with other steps, and takes `InputCalibrated` or `InputLSQ`.

    Args:
        bits: 2…8, or 32 for none.

    Raises:
        ValueError: bits outside their range. TypeError: an input that is not floating point.
    """

    name = "dynamic"
    bit_width = 8
    is_pointwise = False
    is_by_row = True

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bit_width = _checked(bits)

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else 2 ** (self.bit_width - 1)

    def set_bits_(self, bits: int) -> None:
        self.bit_width = _checked(bits)

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        x = as_internal(x, "InputDynamic")
        codes: Tensor = _RowCodes.apply(x, self.scale(x), -self.max_code)
        return codes

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        x = as_internal(x.detach(), "InputDynamic")
        return row_step(x if x.dim() > 0 else x.unsqueeze(0), self.max_code - 1)

    def arithmetic(self) -> Arithmetic | None:
        if self.max_code is None:
            return None
        return Arithmetic("round", self.bit_width, zero_point=self.max_code, step=torch.ones(()), by_row=True)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float tensor [..., features]; see the class for the formula."""
        if self.max_code is None:
            return x
        value: Tensor = CodeValue.apply(self.codes(x), self.max_code, self.scale(x))
        return value.to(x.dtype)


def _checked(bits: int) -> int:
    if check_bits(bits) == 1:
        raise ValueError("InputDynamic takes 2 to 8 bits, or 32 for none, got 1, which has no level but 0; use Sign()")
    return bits
