"""Gradients on a signed grid that has a zero."""

from __future__ import annotations

import torch
from torch import Tensor

from .bits import FLOAT_BITS, check_bits
from .gradients import GradientQuantization, integers_behind, or_one, with_noise_
from .levels import divide, over


class GradientSigned(GradientQuantization):
    """Gradients to 2^bits − 1 levels per sample, one of which is zero, with unbiased stochastic rounding.

    DoReFa's gradient grid (eq. 12 there) has no zero, so that it turns every zero of a sparse gradient into noise of
    half a step. This one is the grid of signed integers instead:

    Forward: the identity.
    Backward: f(g) = (m/q)·floor(g·q/m + U), q = 2^(bits−1) − 1, m = max|g| over all axes but the first, which is the
    batch, and U = U(0, 1) drawn per element. So E[f(g)] = g, up to 2^-16 of a step, for U is drawn with 15 bits.
    The levels are m·i/q, i = −q … q. A zero stays exactly zero, and ±m stays ±m. At 2 bits: 0 and ±m. There is no 1
    bit, which would leave zero alone. An all-zero sample (also one whose m is below 2^-120) stays exactly zero. NaN or
    inf in a sample makes that sample NaN. bits=32: the gradient passes unchanged.

    Args:
        bits: 2…8, or 32 for none.
        noise: False rounds half to even: f becomes deterministic, and biased.
        generator: source of the noise; None takes PyTorch's global one of the gradient's device. torch.compile cannot
            trace a generator object.

    Raises:
        ValueError, TypeError: bits outside the set; an input without a batch axis or not floating point.
    """

    name = "gradientsigned"

    def set_bits_(self, bits: int) -> None:
        if check_bits(bits) == 1:
            raise ValueError(
                f"bits must be one of 2…8, or {FLOAT_BITS} for none, got 1: a signed grid of one bit is zero alone; "
                "GradientDoReFa(1) has the levels ±m"
            )
        super().set_bits_(bits)

    def _grid(self, largest: Tensor) -> tuple[Tensor, int, int]:
        q = 2 ** (self.bit_width - 1) - 1
        return divide(largest, q), 1, q

    def _rounded(self, gradient: Tensor, largest: Tensor, drawn: Tensor | None, out: Tensor | None) -> Tensor:
        q = 2 ** (self.bit_width - 1) - 1
        y = torch.mul(gradient, over(q, or_one(largest)), out=out)
        if drawn is not None:
            # floor(y + U) as round(y + U − ½). U is an odd multiple of 2^-16: no integer y moves.
            with_noise_(y, drawn)
        y.round_()
        # |y| is q and two roundings at most, the noise ½ − 2^-16: with 8 bits the sum may be rounded to q + ½.
        return y if self.bit_width < 8 else y.clamp_(-q, q)

    def gradient_codes(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return i, int8 of the gradient's shape, and m, [batch, 1, …]: f(g) = i·m/q, i = −q … q.

        Of a sample with NaN or inf m is NaN, and i anything.
        """
        return integers_behind(self, gradient, 0)
