"""What an activation quantizer computes, as numbers: deployment writes that down, and nothing else of the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .levels import divide, row_step, sign_plus

#: How u becomes a code, see `Arithmetic`.
Form = Literal["unit", "round", "sign", "heaviside"]
#: Of float32, as an ordered integer: see `_float_at`.
_INFINITY = 0x7F800000


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """An affine function, rounding, and what the codes stand for.

    With n = 2^bits − 1 and u = x/divide + plus, computed in x's dtype with one rounding for each of both:

        "unit":       q = round(n·clip(u, 0, 1)), as DoReFa
        "round":      q = clip(round(u) + zero_point, 0, n), as x/s rounded and shifted
        "sign":       q = +1 for u ≥ 0, else −1
        "heaviside":  q = +1 for u > 0, else −1

    With by_row x is x/s first, of the step s of its row, see `row_step`, with 2^(bits−1) − 1 levels on each side of 0.
    `round` is half to even. The first two store q, 0 … n, the codes are q − zero_point, and 0.0 is a level.

    Attributes:
        form: one of these.
        bits: 1…8; 1 of the signs.
        divide: float32, above 0 and finite, 0-dim or [C, 1, …], which broadcasts against x [batch, C, …]; None for 1.
        plus: float32 likewise, finite; None for 0.
        zero_point: 0 … n.
        step: what one code is worth, float32, 0-dim; None for 1/n of "unit", where values are codes/n, and 1 of signs.
        keeps_nan: whether NaN gives NaN; else it gives the lowest code.
        by_row: whether each row of the last axis has a step of its own, which a code of it is worth. The form is
            "round", of 2 bits or more, the zero point 2^(bits−1), the step 1, and there is nothing to divide by or add.

    Raises:
        ValueError: numbers that are none of these.
    """

    form: Form
    bits: int
    divide: Tensor | None = None
    plus: Tensor | None = None
    zero_point: int = 0
    step: Tensor | None = None
    keeps_nan: bool = True
    by_row: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= (1 if self.is_sign else 8):
            raise ValueError(
                f'bits must be {"1" if self.is_sign else "1 to 8"} with form="{self.form}", got {self.bits}'
            )
        if not 0 <= self.zero_point <= (0 if self.is_sign else self.largest):
            raise ValueError(f"zero_point must be a stored code, 0 to {self.largest}, got {self.zero_point}")
        if self.form == "round" and self.step is None:
            raise ValueError('form="round" needs a step, what one code is worth')
        if self.by_row and not self._is_of_rows():
            raise ValueError(
                'by_row is for form="round" with zero_point=2^(bits−1), a step of 1, and no divide or plus'
            )
        for name in ("divide", "plus", "step"):
            numbers = getattr(self, name)
            if numbers is not None:
                object.__setattr__(self, name, numbers.detach().clone())
        if self.step is not None and self.step.dim() > 0:
            raise ValueError(f"step must be 0-dim, one for all channels, got the shape {list(self.step.shape)}")
        if self.divide is not None and not bool(((self.divide > 0) & self.divide.isfinite()).all()):
            raise ValueError(f"divide must be above 0 and finite, got {self.divide.flatten()[:4].tolist()}")
        if self.plus is not None and not bool(self.plus.isfinite().all()):
            raise ValueError(f"plus must be finite, got {self.plus.flatten()[:4].tolist()}")

    def _is_of_rows(self) -> bool:
        is_plain = self.divide is None and self.plus is None and self.step is not None and float(self.step) == 1
        return is_plain and self.form == "round" and self.bits >= 2 and self.zero_point == 2 ** (self.bits - 1)

    @property
    def is_sign(self) -> bool:
        """Whether the codes are ±1."""
        return is_sign(self.form)

    @property
    def largest(self) -> int:
        """n; 1 of the signs."""
        return 1 if self.is_sign else 2**self.bits - 1

    @property
    def shape(self) -> torch.Size:
        """What divide and plus broadcast to: [C, 1, …] with numbers for each channel, else []."""
        shapes = [numbers.shape for numbers in (self.divide, self.plus) if numbers is not None]
        return torch.broadcast_shapes(*shapes) if shapes else torch.Size()

    def stored(self, x: Tensor) -> Tensor:
        """Return q of x, any shape, float32 or float64, in its dtype."""
        if self.by_row:
            x = x / row_step(x, self.zero_point - 1)
        u = x if self.divide is None else x / self.divide
        u = u if self.plus is None else u + self.plus
        return stored_codes(self.form, u, self.bits, self.zero_point, keeps_nan=self.keeps_nan)

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of x: q less the zero point; ±1 of the signs."""
        q = self.stored(x)
        return q - self.zero_point if self.zero_point != 0 else q

    def values(self, codes: Tensor) -> Tensor:
        """Return what codes stand for."""
        return divide(codes, self.largest) if self.step is None else codes * self.step

    def steps(self) -> Tensor:
        """Return the least float32 x of each stored code but the lowest, by bisection; inf where only inf gives it.

        Shape: [n, *that of divide and plus].
        """
        shape = self.shape
        level = torch.arange(1, self.largest + 1).view(-1, *[1] * len(shape))
        first = torch.full((self.largest, *shape), -_INFINITY)
        after = torch.full_like(first, _INFINITY)
        while bool((first < after).any()):
            middle = (first + after).div(2, rounding_mode="floor")
            q = self.stored(_float_at(middle))
            is_reached = ((q + 1) / 2 if self.is_sign else q) >= level
            after = torch.where(is_reached, middle, after)
            first = torch.where(is_reached, first, middle + 1)
        return _float_at(after)


def is_sign(form: Form) -> bool:
    """Whether the codes of a form are ±1."""
    return form in ("sign", "heaviside")


def stored_codes(form: Form, u: Tensor, bits: int, zero_point: int = 0, *, keeps_nan: bool = True) -> Tensor:
    """Return the stored codes q of u in a new tensor, see `Arithmetic`."""
    q = _rounded(form, u, bits, zero_point)
    return q if keeps_nan else q.nan_to_num(nan=-1.0 if is_sign(form) else 0.0)


def _rounded(form: Form, u: Tensor, bits: int, zero_point: int) -> Tensor:
    n = 2**bits - 1
    match form:
        case "unit":
            return u.clamp(0, 1).mul_(n).round_()
        case "round":
            return u.round().add_(zero_point).clamp_(0, n)
        case "sign":
            return sign_plus(u)
        case "heaviside":
            return -sign_plus(-u)


def _float_at(ordered: Tensor) -> Tensor:
    """The float32 of an integer: i ≥ 0 has the bits of i, and −i is its negative. The order is the same."""
    magnitude = ordered.abs().to(torch.int32).view(torch.float32)
    return torch.where(ordered < 0, -magnitude, magnitude)
