"""What a quantizer of activations computes, found by asking it: at every step of the codes, on both sides, between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..quantizations import Quantization
from ..quantizations.arithmetic import Arithmetic, Form
from ..quantizations.levels import row_step
from .runtime.subnormals import are_flushed

#: The largest code of 8 bits.
LARGEST_CODE = 255


@dataclass(frozen=True)
class Reason:
    """Why the runtime cannot compute something.

    Attributes:
        what: one sentence, without its end.
        remedy: one sentence, without its end.
        partial_helps: whether PyTorch can compute it as it is.
    """

    what: str
    remedy: str
    partial_helps: bool = True

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}"


def arithmetic_of(quantizer: Quantization) -> Arithmetic | Reason:
    """Say what an activation quantizer with codes computes, or why the runtime cannot.

    A quantizer may be of any class, and its codes those of any function. So it is asked about every step, on both sides
    and in between, and is what it computes forward, whatever its gradient is.
    """
    unready = quantizer.not_ready()
    if unready is not None:
        return Reason(*unready, partial_helps=False)
    if not quantizer.is_pointwise and not quantizer.is_by_row:
        return Reason(
            f"{type(quantizer).__name__} scales by statistics of a whole tensor, so an image's codes would depend on "
            "its neighbours",
            "Use InputDoReFa or Sign for activations",
        )
    try:
        for arithmetic in _candidates(quantizer):
            if _computes(quantizer, arithmetic):
                return arithmetic if arithmetic.by_row else _as_with_nan(quantizer, arithmetic)
    except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
        return Reason(
            f"its quantizer fails on some numbers, large and infinite ones among them: {type(error).__name__}: {error}",
            "Let its codes() take any float tensor",
        )
    said = "" if quantizer.arithmetic() is None else "what its arithmetic() says, "
    return Reason(
        f"{quantizer} computes neither {said}round(n·clip(x, 0, 1)) / n nor a sign, which are what the runtime has",
        "Use InputDoReFa or Sign, or a class of your own with the same values and another gradient, or one whose "
        "arithmetic() says its codes",
    )


def _candidates(quantizer: Quantization) -> Iterator[Arithmetic]:
    """What the class says, and the forms without a range, which need no saying."""
    said = quantizer.arithmetic()
    if said is not None:
        yield said
    if quantizer.is_by_row:
        return
    largest = quantizer.max_code
    if largest is None or not 1 <= largest <= LARGEST_CODE or largest != 2**quantizer.bit_width - 1:
        return
    forms: tuple[Form, ...] = ("unit",) if quantizer.unsigned else ("sign", "heaviside") if largest == 1 else ()
    for form in forms:
        yield Arithmetic(form, quantizer.bit_width)


def _computes(quantizer: Quantization, arithmetic: Arithmetic) -> bool:
    """Say whether the codes, and what they are worth, are those of an arithmetic."""
    if arithmetic.by_row or quantizer.is_by_row:
        return arithmetic.by_row and quantizer.is_by_row and _computes_rows(quantizer, arithmetic)
    if arithmetic.is_sign == quantizer.unsigned or quantizer.max_code != arithmetic.largest:
        return False
    if quantizer.bit_width != arithmetic.bits or quantizer.zero_point() != arithmetic.zero_point:
        return False
    one = torch.ones((), dtype=torch.float32)
    worth = arithmetic.values(one) if arithmetic.step is None else arithmetic.step
    x = _asked(quantizer, arithmetic)
    with torch.no_grad():
        scale = quantizer.scale(x.clone())
        if scale.dim() != 0 or not torch.equal(scale.detach(), worth):
            return False
        return torch.equal(quantizer.codes(x.clone()), arithmetic.codes(x))


def _computes_rows(quantizer: Quantization, arithmetic: Arithmetic) -> bool:
    """Say whether rows with all numbers around the steps have the codes and scales of an arithmetic by row."""
    largest = arithmetic.zero_point - 1
    if quantizer.max_code != largest + 1 or quantizer.bit_width != arithmetic.bits or quantizer.zero_point() != 0:
        return False
    row = points(replace(arithmetic, by_row=False)).clamp(-largest, largest)
    row = row[row != 0]  # which has no product with an infinity
    x = torch.stack([row * factor for factor in (1.0, 1 / 3, 2.0**-99, 1e30, 0.0, torch.inf)])
    with torch.no_grad():
        is_scale = torch.equal(quantizer.scale(x.clone()), row_step(x, largest))
        return is_scale and torch.equal(quantizer.codes(x.clone()), arithmetic.codes(x))


def _asked(quantizer: Quantization, arithmetic: Arithmetic) -> Tensor:
    """Return the points of an arithmetic, for every channel where the quantizer says numbers for each."""
    x, said = points(arithmetic), quantizer.arithmetic()
    if said is None or len(said.shape) == 0 or len(arithmetic.shape) > 0:
        return x
    return x.view(-1, *[1] * len(said.shape)).expand(-1, *said.shape)


def _as_with_nan(quantizer: Quantization, arithmetic: Arithmetic) -> Arithmetic:
    """Return the arithmetic as it is of NaN, which a comparison in a quantizer of the user's makes the lowest code."""
    with torch.no_grad():
        codes = quantizer.codes(_asked(quantizer, arithmetic)[:1] * torch.nan)
    return replace(arithmetic, keeps_nan=bool(codes.isnan().all()))


def points(arithmetic: Arithmetic) -> Tensor:
    """Return float32 numbers around every step of the codes, between them, and beyond: [count, *shape of the steps].

    The tensor is the caller's own.
    """
    if len(arithmetic.shape) > 0:  # with many channels too large to keep
        return _points(arithmetic)
    numbers = (None if one is None else (one.dtype, float(one).hex()) for one in (arithmetic.divide, arithmetic.plus))
    means = (arithmetic.form, arithmetic.bits, arithmetic.zero_point, arithmetic.keeps_nan, *numbers)
    return _kept_points(_Kept(arithmetic, means), are_flushed(), torch.get_default_dtype()).clone()


@dataclass(frozen=True)
class _Kept:
    """An arithmetic as a key: equal to others whose codes are the same."""

    arithmetic: Arithmetic = field(compare=False)
    means: tuple[object, ...]


@lru_cache(maxsize=64)
def _kept_points(key: _Kept, flushed: bool, default: torch.dtype) -> Tensor:
    """Return the points of an arithmetic. A deployment asks for the same ones many times for each of its layers.

    Args:
        flushed, default: modes of PyTorch in which the same arithmetic has other points.
    """
    with torch.inference_mode(False):
        return _points(key.arithmetic)


def _points(arithmetic: Arithmetic) -> Tensor:
    steps = arithmetic.steps()
    finite = steps.nan_to_num(posinf=torch.finfo(torch.float32).max)
    low, high = finite.amin(0, keepdim=True), finite.amax(0, keepdim=True)
    reach = (high - low).maximum(high.abs()).maximum(low.abs())
    share = torch.linspace(-1, 2, 1201).view(-1, *[1] * (steps.dim() - 1))
    between = (low - reach) + (high - low + 2 * reach) * (share + 1) / 3
    far = torch.tensor([0.0, 1e-45, 1e-8, 1.0, 2.0, 1e30, torch.inf]).view(-1, *[1] * (steps.dim() - 1))
    far = torch.cat([far, -far]).expand(-1, *steps.shape[1:])
    below, above = (finite.nextafter(torch.tensor(sign * torch.inf)) for sign in (-1, 1))
    return torch.cat([finite, below, above, between.nan_to_num(), far])


def gives_signs(quantizer: Quantization) -> bool:
    """Whether the codes of a quantizer are ±1 wherever it is asked."""
    try:
        with torch.no_grad():
            codes = quantizer.codes(_asked(quantizer, Arithmetic("sign", 1)))
    except Exception:  # code of the user may raise anything; then these are no codes to rely on
        return False
    return bool(((codes.abs() == 1) | codes.isnan()).all())  # NaN of infinities: packed layers see to that
