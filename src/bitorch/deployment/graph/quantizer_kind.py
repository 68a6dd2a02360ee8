"""Which function of a number a quantizer is: that decides what the passes may do with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ...quantizations import Quantization, RangeQuantization
from ...quantizations.base import sign_plus
from ...quantizations.ranges import codes_at, position

#: "unit": round(n·clip(x, 0, 1)) with n = 2^bits − 1. "sign": x ≥ 0, "heaviside": x > 0, both to ±1.
Form = Literal["unit", "sign", "heaviside"]


def form(quantizer: Quantization) -> Form | None:
    """Say which form a quantizer with a grid computes, or None if it is none of them.

    A quantizer of the user's own may be any function. It is asked at every step of the forms, on both sides, and in
    between, so that one with a gradient of its own counts as what it computes forward.
    """
    largest, scale = quantizer.max_code, quantizer.scale(torch.zeros(1))
    if largest is None or scale.dim() != 0 or 2**quantizer.bit_width - 1 != largest or not 1 <= largest <= 255:
        return None
    x = _points(largest)
    with torch.no_grad():
        codes = quantizer.codes(x.clone())
    for name, expected in _expected(quantizer, x, largest):
        unit = torch.tensor(1 / largest if name == "unit" else 1.0)
        if torch.equal(codes, expected) and torch.equal(scale, unit):
            return name
    return None


def codes_of(form: Form, x: Tensor, bits: int) -> Tensor:
    """Return the codes that a form gives for float32 x, any shape: 0 … 2^bits − 1, or ±1 of the signs; NaN for NaN."""
    if form == "unit":
        return x.clamp(0, 1).mul_(2**bits - 1).round_()
    return sign_plus(x) if form == "sign" else -sign_plus(-x)


def is_uniform(quantizer: RangeQuantization) -> bool:
    """Say whether a quantizer has the codes of its width and zero point, as a subclass of the user's own may not."""
    n, width = 2**quantizer.bit_width - 1, quantizer.width()
    zero = quantizer.zero() if quantizer.zero_point() != 0 else None
    x = _points(n) * width
    with torch.no_grad():
        codes = quantizer.codes(x.clone())
    return torch.equal(codes, codes_at(position(x, width, zero, n), zero, n))


def signed_grid_remedy(quantizer: Quantization, codes: Tensor) -> str:
    """Say, behind a message about a weight's codes, that they are those of a grid that the quantizer does not name."""
    bits = quantizer.bit_width
    half = 2 ** (bits - 1) if 1 <= bits <= 8 else 0
    is_signed = bool(((codes >= -half) & (codes < half) & (codes == codes.round())).all())
    if quantizer.grid == "signed" or codes.numel() == 0 or not is_signed:
        return ""
    name = type(quantizer).__name__
    return f'; set grid = "signed" on {name}: they are integers of {bits} bits, from {-half} to {half - 1}'


def _expected(quantizer: Quantization, x: Tensor, largest: int) -> Iterator[tuple[Form, Tensor]]:
    if quantizer.unsigned:
        yield "unit", x.clamp(0, 1).mul(largest).round()
    elif largest == 1:
        yield "sign", sign_plus(x)
        yield "heaviside", torch.where(x > 0, 1.0, -1.0)


def _points(n: int) -> Tensor:
    """Numbers around every tie of n levels, between them, and beyond."""
    ties = (torch.arange(n, dtype=torch.float32) + 0.5) / n
    infinity = torch.tensor(torch.inf)
    above = torch.tensor([0.0, 1e-45, 1e-8, 1.0, 2.0, 1e30, torch.inf])
    return torch.cat(
        [ties, ties.nextafter(infinity), ties.nextafter(-infinity), torch.linspace(-3, 3, 1201), above, -above]
    )
