"""Gradients to powers of two, without bias."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from .bits import FLOAT_BITS, check_bits
from .gradients import GradientQuantization, or_one

Range = Literal["sample", "tensor"]


class GradientLUQ(GradientQuantization):
    """Gradients to a sign and a power of two, rounded without bias (LUQ).

    Chmiel et al. 2021, "Logarithmic Unbiased Quantization", https://arxiv.org/abs/2112.10769. With b = bits − 1 bits of
    exponent, r = 2^b − 2 and the underflow threshold α = m/2^r, m = max|g|:

    Forward: the identity.
    Backward: f(g) = sign(g)·Q(T(|g|)), where T is the stochastic underflow (the paper's eq. 10) and Q the logarithmic
    stochastic rounding (eq. 12):
      T(x) = x for x ≥ α; below, α with probability x/α, else 0.
      Q(x) = 2^i·α with probability (x − 2^(i−1)·α)/(2^(i−1)·α), else 2^(i−1)·α, for 2^(i−1)·α ≤ x ≤ 2^i·α.
    So E[f(g)] = g, up to 2^-16 of a step, for the noise is drawn with 15 bits.
    The levels are 0 and ±α·2^i, i = 0 … r: 2^bits − 1 of them, all that a format with b bits of exponent and none of
    mantissa can tell apart (the paper's FP4 [1, 3, 0] is bits=4, α = m/64). Eq. 11 there prints α = m/2^(2^(b−1)),
    which would leave codes of that format unused.
    A zero stays exactly zero, and ±m stays ±m. At 2 bits: 0 and ±m. An all-zero sample (also one whose m is below
    2^-120) stays exactly zero. NaN or inf in a sample makes that sample NaN. bits=32: the gradient passes unchanged.

    Args:
        bits: 2…8, or 32 for none.
        noise: False rounds to the nearest level, ties away from zero: f becomes deterministic, and biased.
        generator: source of the noise; None takes PyTorch's global one of the gradient's device. torch.compile cannot
            trace a generator object.
        range: m is the maximum of each "sample", as of the other quantizers of gradients, or of the whole "tensor", as
            in the paper.

    Raises:
        ValueError, TypeError: bits or range outside the set; an input without a batch axis or not floating point.
    """

    name = "gradientluq"

    def __init__(
        self,
        bits: int = 4,
        *,
        noise: bool = True,
        generator: torch.Generator | None = None,
        range: Range = "sample",
    ) -> None:
        super().__init__(bits, noise=noise, generator=generator)
        if range not in get_args(Range):
            raise ValueError(f"range must be one of {', '.join(map(repr, get_args(Range)))}, got {range!r}")
        self.range = range

    def set_bits_(self, bits: int) -> None:
        if check_bits(bits) == 1:
            raise ValueError(
                f"bits must be one of 2…8, or {FLOAT_BITS} for none, got 1: one bit is the sign, and leaves none "
                "for an exponent; GradientDoReFa(1) has the levels ±m"
            )
        super().set_bits_(bits)

    def _axes(self, gradient: Tensor) -> tuple[int, ...]:
        return super()._axes(gradient) if self.range == "sample" else tuple(range(gradient.dim()))

    def _grid(self, largest: Tensor) -> tuple[Tensor, int, int]:
        return largest, 1, 2 ** (2 ** (self.bit_width - 1) - 2)

    def _rounded(self, gradient: Tensor, largest: Tensor, drawn: Tensor | None, out: Tensor | None) -> Tensor:
        """Return 0 and ±2^(i − r), i = 0 … r."""
        magnitude = torch.div(gradient, or_one(largest), out=out).abs_()
        rounded = _powers_of_two(magnitude, 2 ** (self.bit_width - 1) - 2, drawn)
        return rounded.copysign_(gradient)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, range={self.range!r}"


def _powers_of_two(magnitude: Tensor, r: int, drawn: Tensor | None) -> Tensor:
    """Round numbers in [0, 1] to 0 and 2^−r … 1, in place.

    Between powers of two the bits of a float's mantissa say how far it is from the lower one to the higher. So adding
    uniform noise to them, and dropping them, is Q: the carry goes into the exponent with that probability. Below
    α = 2^−r, α is added before and subtracted after, for there x/α is the mantissa of x + α.
    """
    below = (magnitude < 2.0**-r).view(torch.int8)  # int8 adds faster than bool
    magnitude.add_(below, alpha=2.0**-r)
    integer, mantissa = (torch.int64, 52) if magnitude.dtype == torch.float64 else (torch.int32, 23)
    bits = magnitude.view(integer)
    if drawn is not None:
        bits.add_(drawn.to(integer), alpha=2 ** (mantissa - 16))
    bits.add_(2 ** (mantissa - 1)).bitwise_and_(-(2**mantissa))
    return magnitude.add_(below, alpha=-(2.0**-r))
