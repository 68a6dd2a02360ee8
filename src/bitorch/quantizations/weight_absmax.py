"""Weights to integers whose scale is the largest magnitude: of the layer, of each channel, or of groups of inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import STE, CodeValue, Grid, as_internal
from .bits import FLOAT_BITS, check_bits
from .levels import divide, sign_plus
from .weight_groups import GroupedWeight


class _AbsMaxCodes(STE):
    """clip(round(w/s), −n, n) forward, 0 where s is 0; sign⁺(w) at 1 bit; g backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, scale: Tensor, bits: int) -> Tensor:  # type: ignore[override]  # STE with options
        if bits == 1:
            return sign_plus(input_tensor) + 0 * scale  # NaN where the scale is
        n = (1 << bits - 1) - 1
        # Where the scale is 0, so is the weight, but for numbers below n/2 of the least that there is.
        return (input_tensor / (scale + (scale == 0))).round_().clamp_(-n, n)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        return output_gradient, None, None


class WeightAbsMax(GroupedWeight):
    """Weights to 2^bits − 1 levels, symmetric around 0, up to the largest |w| of what shares a scale (absmax).

    Round to nearest as Dettmers and Zettlemoyer 2023, "The case for 4-bit precision", https://arxiv.org/abs/2212.09720,
    have it, equation 1, with a scale for each block of weights; blocks are groups of inputs of an output channel. With
    n = 2^(bits−1) − 1:

        s = max|w| / n,   ŵ = s·clip(round(w/s), −n, n)

    Backward: g; s is a constant, and nothing is clipped.
    At 1 bit: ŵ = s·sign⁺(w), s = mean|w|, as the binary weights of XNOR-Net.
    Codes: −n … n with a zero level (grid "signed"); ±1 at 1 bit (grid "odd"). Scale: s, 0-dim, [C_out, 1, …] per
    channel, or of the weight's shape with groups, of which each number is its group's.
    At 0: 0; s at 1 bit. All zeros: all 0, s = 0, and the gradient is g. NaN or inf in the weight makes NaN of all that
    shares its scale. bits=32: unchanged, without a grid.

    Args:
        bits: 1…8, or 32 for none.
        per_channel: whether each output channel (dim 0) has a scale of its own.
        group_size: how many inputs of an output channel share a scale, such as 32, 64 or 128, in the order of the
            weight's axes behind the first; None: no groups. Linear layers with groups compute on codes, and deploy with
            packed weights, beside codes or floats; convolutions compute on the values.

    Raises:
        ValueError: bits outside the set, a group size below 1, or one that does not divide the number of inputs.
        TypeError: what is no integer; a weight that is not floating point.
    """

    name = "weightabsmax"

    def __init__(self, bits: int, per_channel: bool = False, group_size: int | None = None) -> None:
        super().__init__(per_channel, group_size)
        self.bit_width = check_bits(bits)

    @property
    def grid(self) -> Grid:  # type: ignore[override]  # of the class it is the default
        return "odd" if self.bit_width == 1 else "signed"

    @property
    def _largest(self) -> int:  # type: ignore[override]  # of the bits
        """n, or 1 at 1 bit."""
        return max(1, (1 << self.bit_width - 1) - 1)

    def set_bits_(self, bits: int) -> None:
        self.bit_width = check_bits(bits)

    def codes(self, x: Tensor) -> Tensor:
        if self.bit_width == FLOAT_BITS:
            return super().codes(x)
        weight = as_internal(x, "WeightAbsMax")
        codes: Tensor = _AbsMaxCodes.apply(weight, self.scale(weight), self.bit_width)
        return codes

    def scale(self, x: Tensor) -> Tensor:
        if self.bit_width == FLOAT_BITS:
            return super().scale(x)
        weight = as_internal(x.detach(), "WeightAbsMax")
        if weight.numel() == 0:
            return self._no_scale(weight)
        size = self._shared(weight).abs()
        statistic = size.mean(1) if self.bit_width == 1 else divide(size.amax(1), self._largest)
        # Not finite: NaN, so that 0 times it is NaN, too.
        return self._spread(torch.where(statistic.isfinite(), statistic, torch.nan), weight)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight, [C_out, …]; see the class for the formula."""
        if self.bit_width == FLOAT_BITS:
            return x
        value: Tensor = CodeValue.apply(self.codes(x), self._largest, self.scale(x))
        return value.to(x.dtype)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, {self._scales_text()}"
