"""Weights whose scale is a power of two, so that scaling is exact, and a shift in hardware."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import STE, CodeValue, Grid, Quantization, as_internal
from .bits import FLOAT_BITS, check_bits
from .levels import sign_plus
from .power_of_two import LEAST, nearest_power, power_of_two


class _PowerOfTwoCodes(STE):
    """round(w/s) in the bounds forward, sign⁺(w) at 1 bit; g backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, scale: Tensor, bits: int) -> Tensor:  # type: ignore[override]  # STE with options
        if bits == 1:
            return sign_plus(input_tensor) + 0 * scale  # NaN where the scale is
        return (input_tensor / scale).round_().clamp_(-(1 << bits - 1), (1 << bits - 1) - 1)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        return output_gradient, None, None


class WeightPowerOfTwo(Quantization):
    """Weights to 2^bits levels with a scale that is a power of two: the least one that clips no weight.

    As the power-of-two scaling of TQT (Jain et al. 2019, https://arxiv.org/abs/1903.08066), with the threshold at the
    largest weight in place of a learned one. With Q_N = 2^(bits−1) and Q_P = 2^(bits−1) − 1:

        s = 2^⌈log2(max|w| / Q_P)⌉,   ŵ = s·clip(round(w/s), −Q_N, Q_P)

    The division and the multiplication by s are exact, so rounding is the only error, at most s/2.
    Backward: g; s is a constant, and nothing is clipped.
    At 1 bit: ŵ = s·sign⁺(w), s the power of two nearest to mean|w| in its exponent: 2^⌊log2(mean|w|) + ½⌋.
    Codes: −Q_N … Q_P with a zero level (grid "signed"); ±1 at 1 bit (grid "odd"). Scale: s.
    At 0: code 0; +1 at 1 bit. All zeros: the same with s = 2^-60, below which s never is, and the gradient is g. NaN or
    inf in the weight makes s NaN, and so every value that it scales. bits=32: unchanged, without a grid.

    Args:
        bits: 1…8, or 32 for none.
        per_channel: whether each output channel (dim 0) has a scale of its own.

    Raises:
        ValueError, TypeError: bits outside the set; a weight that is not floating point.
    """

    name = "weightpoweroftwo"
    is_pointwise = False

    def __init__(self, bits: int, per_channel: bool = False) -> None:
        super().__init__()
        self.bit_width = check_bits(bits)
        self.per_channel = per_channel

    @property
    def grid(self) -> Grid:  # type: ignore[override]  # of the class it is the default
        return "odd" if self.bit_width == 1 else "signed"

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else 1 << self.bit_width - 1

    def set_bits_(self, bits: int) -> None:
        self.bit_width = check_bits(bits)

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        weight = as_internal(x, "WeightPowerOfTwo")
        codes: Tensor = _PowerOfTwoCodes.apply(weight, self.scale(weight), self.bit_width)
        return codes

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        size = as_internal(x.detach(), "WeightPowerOfTwo").abs()
        if x.numel() == 0:
            return torch.full((), LEAST, dtype=size.dtype, device=x.device)
        axes = tuple(range(1, x.dim())) if self.per_channel else tuple(range(x.dim()))
        if self.bit_width == 1:
            return nearest_power(size.mean(axes, keepdim=self.per_channel))
        return power_of_two(size.amax(axes, keepdim=self.per_channel) / ((1 << self.bit_width - 1) - 1), 0.5)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight, [C_out, …]; see the class for the formula."""
        if self.max_code is None:
            return x
        value: Tensor = CodeValue.apply(self.codes(x), self.max_code, self.scale(x))
        return value.to(x.dtype)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, per_channel={self.per_channel}"
