"""Whether a low-bit layer, or a quantizer, can be computed by bitorch_runtime: one judgement for all of deployment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import QActivation, QConv1d, QConv2d, QLinear
from ..layers.input_quantizer import gives_its_quantizers_values
from ..layers.low_bit import LowBit
from ..layers.qattention import QProjection
from ..quantizations import (
    GradientDoReFa,
    GradientLUQ,
    GradientSigned,
    Quantization,
)
from ..quantizations.arithmetic import Arithmetic, Form
from ..quantizations.base import Grid
from ..quantizations.own_values import is_as_made

_LARGEST = 255  # of 8 bits


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


@dataclass(frozen=True, eq=False)
class Packing:
    """What a low-bit layer is in the runtime.

    Attributes:
        arithmetic: how the input's codes come about, or why that is left to PyTorch, which only a partial deployment
            can do; the codes themselves are 0 … 2^activation_bits − 1 less the zero point, or ±1.
        activation_bits: of these codes.
        weight: the weight's codes, [C_out, …], float32 or float64; NaN where the weight is.
        weight_bits, weight_grid: what they are stored in.
        pad_code: of the borders; 0 where there are none.
    """

    arithmetic: Arithmetic | Reason
    activation_bits: int
    weight: Tensor
    weight_bits: int
    weight_grid: Grid
    pad_code: int


def packable(layer: LowBit) -> Packing | Reason:
    """Say what a low-bit layer is in the runtime, or why it can be nothing there."""
    reason = _why_not_codes(layer)
    if reason is not None:
        return reason
    arithmetic = arithmetic_of(layer.input_quantization)
    if isinstance(arithmetic, Reason):
        reason = (
            arithmetic if not arithmetic.partial_helps else _why_no_stored_codes(layer.input_quantization, arithmetic)
        )
        if reason is not None:
            return reason
    largest = layer.input_quantization.max_code
    assert largest is not None  # just checked
    with torch.no_grad():
        weight = _packed_weight(layer)
    if isinstance(weight, Reason):
        return weight
    codes, weight_bits = weight
    activation_bits = arithmetic.bits if isinstance(arithmetic, Arithmetic) else largest.bit_length()
    grid = layer.weight_quantization.grid
    too_wide = _why_too_wide(codes, 2 ** (weight_bits - 1) if grid == "signed" else 2**weight_bits - 1, activation_bits)
    if too_wide is not None:
        return too_wide
    pad_code = _pad_code(layer)
    if isinstance(pad_code, Reason):
        return pad_code
    return Packing(arithmetic, activation_bits, codes, weight_bits, grid, pad_code)


def arithmetic_of(quantizer: Quantization) -> Arithmetic | Reason:
    """Say what an activation quantizer with codes computes, or why the runtime cannot.

    A quantizer may be of any class, and its codes those of any function. So it is asked about every step, on both sides
    and in between, and is what it computes forward, whatever its gradient is.
    """
    unready = quantizer.not_ready()
    if unready is not None:
        return Reason(*unready, partial_helps=False)
    if not quantizer.is_pointwise:
        return Reason(
            f"{type(quantizer).__name__} scales by statistics of a whole tensor, so an image's codes would depend on "
            "its neighbours",
            "Use InputDoReFa or Sign for activations",
        )
    try:
        for arithmetic in _candidates(quantizer):
            if _computes(quantizer, arithmetic):
                return arithmetic
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
    largest = quantizer.max_code
    if largest is None or not 1 <= largest <= _LARGEST or largest != 2**quantizer.bit_width - 1:
        return
    forms: tuple[Form, ...] = ("unit",) if quantizer.unsigned else ("sign", "heaviside") if largest == 1 else ()
    for form in forms:
        yield Arithmetic(form, quantizer.bit_width)


def _computes(quantizer: Quantization, arithmetic: Arithmetic) -> bool:
    """Say whether the codes, and what they are worth, are those of an arithmetic."""
    if arithmetic.is_sign == quantizer.unsigned or quantizer.max_code != arithmetic.largest:
        return False
    if quantizer.bit_width != arithmetic.bits or quantizer.zero_point() != arithmetic.zero_point:
        return False
    one = torch.ones((), dtype=torch.float32)
    worth = arithmetic.values(one) if arithmetic.step is None else arithmetic.step
    x = points(arithmetic)
    with torch.no_grad():
        scale = quantizer.scale(x.clone())
        if scale.dim() != 0 or not torch.equal(scale.detach(), worth):
            return False
        return torch.equal(quantizer.codes(x.clone()), arithmetic.codes(x))


def points(arithmetic: Arithmetic) -> Tensor:
    """Return float32 numbers around every step of the codes, between them, and beyond: [count, *shape of the steps]."""
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


def _why_not_codes(layer: LowBit) -> Reason | None:
    """Why a layer computes something else than products of codes."""
    if type(layer) not in (QLinear, QConv1d, QConv2d, QProjection):
        return Reason(
            f"{type(layer).__name__} is a subclass of a low-bit layer, and may compute something else",
            "Use QConv1d, QConv2d or QLinear itself",
        )
    if not layer.exact:
        return Reason(
            "a layer with exact=False computes on floats, whose sums depend on the machine",
            "Set layer.exact = True; the parameters stay",
        )
    if not isinstance(layer.activation, Quantization) and not (
        type(layer.activation) is QActivation and gives_its_quantizers_values(layer.activation)
    ):
        return Reason(
            f"its activation is a {type(layer.activation).__name__}, with a forward of its own or no quantizer",
            "Use QActivation itself, with a quantizer",
        )
    if not _changes_nothing(layer.gradient_quantization):
        return Reason(
            f"its gradient quantizer {layer.gradient_quantization} may change the result, not only the gradient",
            "Use GradientDoReFa, GradientSigned or GradientLUQ itself, or set layer.gradient_quantization = None",
        )
    for which, quantizer in (("weight", layer.weight_quantization), ("input", layer.input_quantization)):
        if quantizer.exact_max_code is None:
            return Reason(
                f"its {which} quantizer {quantizer} {quantizer.why_no_codes}, so there are no codes to compute on",
                f"{_with_codes(quantizer)}, or a float layer instead",
            )
    if layer.weight.numel() == 0:
        return Reason(f"its weight is empty: {tuple(layer.weight.shape)}", "Use a layer with inputs and outputs")
    return None


def _with_codes(quantizer: Quantization) -> str:
    if quantizer.max_code is None:
        return "Use one that has (1 to 8 bits)"
    return "Define max_code, codes and scale beside it, for the same values"


def _changes_nothing(gradient: Quantization | None) -> bool:
    """Whether a gradient quantizer is sure to be the identity forward."""
    if gradient is None:
        return True
    kind = type(gradient)
    known = kind in (GradientDoReFa, GradientSigned, GradientLUQ)
    return known and all(is_as_made(gradient, kind, name) for name in ("quantize", "forward"))


def _why_no_stored_codes(quantizer: Quantization, arithmetic: Reason) -> Reason | None:
    """Why the codes that PyTorch computes are none that the runtime stores: 0 … n less a zero point, or ±1."""
    largest = quantizer.max_code
    assert largest is not None  # checked before
    if not quantizer.unsigned and (largest != 1 or not _gives_signs(quantizer)):
        return (
            arithmetic
            if not quantizer.is_pointwise
            else Reason(
                f"its input quantizer {quantizer} has signed codes; the runtime has 0 … n for activations, or ±1",
                "Set unsigned = True and define zero_point() on its class, with codes from −zero_point, or use ±1",
            )
        )
    if not 1 <= largest <= _LARGEST:
        return Reason(
            f"its input quantizer {quantizer} has codes up to {largest}; the runtime takes 8 bits", "Use at most 8 bits"
        )
    return None


def _gives_signs(quantizer: Quantization) -> bool:
    """Whether the codes of a quantizer are ±1 wherever it is asked."""
    try:
        said = quantizer.arithmetic()
        with torch.no_grad():
            codes = quantizer.codes(points(Arithmetic("sign", 1) if said is None else said))
    except Exception:  # code of the user may raise anything; then these are no codes to rely on
        return False
    return bool((codes.abs() == 1).all())


def _packed_weight(layer: LowBit) -> tuple[Tensor, int] | Reason:
    """The weight's codes and the bits that hold them."""
    quantizer = layer.weight_quantization
    codes, largest = quantizer.codes(layer._current_weight()), quantizer.max_code
    assert largest is not None  # checked before
    # NaN passes here: it is told with all other parameters that are not finite
    if quantizer.grid == "signed":
        bits = quantizer.bit_width
        half = 1 << bits - 1 if 1 <= bits <= 8 else 0
        is_wrong, which = (codes < -half) | (codes >= half), "those of a signed integer"
    else:
        bits = max(int(codes.nan_to_num().abs().max()), largest).bit_length()
        is_wrong, which = codes % 2 == 0, "the odd integers up to 2^bits - 1"
    if not 1 <= bits <= 8 or bool(is_wrong.any()):
        return Reason(
            f"its weight quantizer {quantizer} has other codes than {which} of 1 to 8 bits"
            + _signed_grid_remedy(quantizer, codes),
            "Use WeightDoReFa, WeightLSQ, WeightTWN or Sign",
        )
    return codes, bits


def _signed_grid_remedy(quantizer: Quantization, codes: Tensor) -> str:
    """Say, behind a message about a weight's codes, that they are those of a grid that the quantizer does not name."""
    bits = quantizer.bit_width
    half = 2 ** (bits - 1) if 1 <= bits <= 8 else 0
    is_signed = bool(((codes >= -half) & (codes < half) & (codes == codes.round())).all())
    if quantizer.grid == "signed" or not is_signed:
        return ""
    name = type(quantizer).__name__
    return f'; set grid = "signed" on {name}: they are integers of {bits} bits, from {-half} to {half - 1}'


def _why_too_wide(codes: Tensor, largest: int, activation_bits: int) -> Reason | None:
    """Why the int32 sums could overflow: only custom quantizers, with codes short of 2^bits − 1, get so far."""
    count = codes[0].numel()
    if count * largest * (2**activation_bits - 1) < 2**31:
        return None
    return Reason(
        f"{count} inputs per output could overflow the int32 sums of the runtime", "Use fewer bits, or more groups"
    )


def _pad_code(layer: LowBit) -> int | Reason:
    """The code that borders are filled with, where the runtime has it; 0 where there are none."""
    if (
        not isinstance(layer, (QConv1d, QConv2d))
        or layer.padding_mode != "zeros"
        or not any(map(any, layer._borders()))
    ):
        return 0
    quantizer = layer.input_quantization
    grid = quantizer.max_code
    assert grid is not None  # checked before
    code = layer._pad_code(grid)
    if not (0 if quantizer.unsigned else -grid) <= code <= grid:
        return Reason(
            f"pad_value={layer.pad_value} is beyond the levels of its input quantizer {quantizer}",
            f"Use a pad_value from {0 if quantizer.unsigned else -1} to 1",
        )
    return code
