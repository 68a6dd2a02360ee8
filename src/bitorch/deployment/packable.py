"""Whether bitorch_runtime can compute a low-bit layer: one judgement for whole and partial deployment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose1d,
    QConvTranspose2d,
    QConvTranspose3d,
    QLinear,
    QTransposedLinear,
)
from ..layers.input_quantizer import gives_its_quantizers_values
from ..layers.low_bit import LowBit, group_code
from ..layers.qattention import QProjection
from ..layers.qrecurrent import QGates
from ..quantizations import (
    GradientDoReFa,
    GradientLUQ,
    GradientSigned,
    Quantization,
)
from ..quantizations.arithmetic import Arithmetic
from ..quantizations.base import Grid
from ..quantizations.own_values import is_as_made
from .asked_arithmetic import LARGEST_CODE, Reason, arithmetic_of, gives_signs

_CONVOLUTIONS = (QConv1d, QConv2d, QConv3d)
_TRANSPOSED = (QConvTranspose1d, QConvTranspose2d, QConvTranspose3d)
#: Linear layers. Exact types: a subclass may compute something else.
LINEAR = (QLinear, QTransposedLinear, QProjection, QGates)
_LAYERS = (*LINEAR, *_CONVOLUTIONS, *_TRANSPOSED)


@dataclass(frozen=True, eq=False)
class Packing:
    """What a low-bit layer is in the runtime.

    Attributes:
        arithmetic: how the input's codes come about, or why that is left to PyTorch, which only a partial deployment
            can do; the codes themselves are 0 … 2^activation_bits − 1 less the zero point, or ±1.
        activation_bits: of these codes.
        weight: the weight's codes, [C_out, …], float32 or float64; NaN where the weight is.
        weight_bits, weight_grid: what they are stored in.
        pad_code: of the borders; 0 where there are none. One beyond the codes needs wider ones, of 8 bits at most.
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
        weight = packed_codes(layer.weight_quantization, layer._current_weight())
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


def _why_not_codes(layer: LowBit) -> Reason | None:
    """Why a layer computes something else than products of codes."""
    if type(layer) not in _LAYERS:
        return Reason(
            f"{type(layer).__name__} is a subclass of a low-bit layer, and may compute something else",
            "Use the layer itself, or QConv1d, QConv2d or QLinear",
        )
    if not layer.exact:
        return Reason(
            "a layer with exact=False computes on floats, whose sums depend on the machine",
            "Set layer.exact = True; the parameters stay",
        )
    activation = layer.activation
    if not isinstance(activation, Quantization | QActivation):
        return Reason(
            f"its activation is a {type(activation).__name__}, not a quantizer", "Use QActivation, with a quantizer"
        )
    if isinstance(activation, QActivation) and not gives_its_quantizers_values(activation):
        return Reason(
            f"its activation is a {type(activation).__name__} with a forward of its own",
            "Use QActivation itself, with a quantizer",
        )
    if not changes_nothing(layer.gradient_quantization):
        return Reason(
            f"its gradient quantizer {layer.gradient_quantization} may change the result, not only the gradient",
            "Use GradientDoReFa, GradientSigned or GradientLUQ itself, or set layer.gradient_quantization = None",
        )
    of_weight, of_input = layer.weight_quantization, layer.input_quantization
    largest_codes = layer._largest_weight_code(), of_input.exact_max_code
    for which, quantizer, largest in zip(("weight", "input"), (of_weight, of_input), largest_codes, strict=True):
        if largest is None:
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


def changes_nothing(gradient: Quantization | None) -> bool:
    """Say whether a gradient quantizer is sure to be the identity forward."""
    if gradient is None:
        return True
    kind = type(gradient)
    known = kind in (GradientDoReFa, GradientSigned, GradientLUQ)
    return known and all(is_as_made(gradient, kind, name) for name in ("quantize", "forward"))


def _why_no_stored_codes(quantizer: Quantization, arithmetic: Reason) -> Reason | None:
    """Why the codes that PyTorch computes are none that the runtime stores: 0 … n less a zero point, or ±1."""
    largest = quantizer.max_code
    assert largest is not None  # checked before
    if not quantizer.unsigned and (largest != 1 or not gives_signs(quantizer)):
        return (
            arithmetic
            if not quantizer.is_pointwise
            else Reason(
                f"its input quantizer {quantizer} has signed codes; the runtime has 0 … n for activations, or ±1",
                "Set unsigned = True and define zero_point() on its class, with codes from −zero_point, or use ±1",
            )
        )
    if not 1 <= largest <= LARGEST_CODE:
        return Reason(
            f"its input quantizer {quantizer} has codes up to {largest}; the runtime takes 8 bits", "Use at most 8 bits"
        )
    return None


def packed_codes(quantizer: Quantization, weight: Tensor) -> tuple[Tensor, int] | Reason:
    """Return a weight's codes and the bits that hold them, or why the runtime has none such.

    Args:
        quantizer: one that has codes, maybe with a scale for each group of inputs.
    """
    of_groups = group_code(quantizer)
    codes, largest = quantizer.codes(weight), quantizer.max_code if of_groups is None else of_groups
    assert largest is not None  # it has codes
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


def weight_scales(layer: LowBit) -> Tensor:
    """Return what the codes of a layer's weight are worth: 0-dim, [C_out], or [C_out, G] of G groups of inputs, G > 1.

    Args:
        layer: one whose weight has codes.
    """
    scale, size = layer.weight_scale(), layer._group_size()
    if size is None:
        return scale if scale.dim() == 0 else scale.flatten()
    return scale[:, ::size].contiguous() if scale.shape[1] > size else scale[:, 0].contiguous()


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
    if not isinstance(layer, _CONVOLUTIONS) or layer.padding_mode != "zeros" or not any(map(any, layer._borders())):
        return 0
    quantizer = layer.input_quantization
    grid = quantizer.max_code
    assert grid is not None  # checked before
    code = layer._pad_code(grid)
    beyond = f"pad_value={layer.pad_value} is beyond the levels of its input quantizer {quantizer}"
    if not quantizer.unsigned:
        return code if -grid <= code <= grid else Reason(beyond, "Use a pad_value from -1 to 1")
    if 0 <= code <= grid:
        return code
    if quantizer.zero_point() != 0 or (max(code, grid) - min(code, 0)).bit_length() > LARGEST_CODE.bit_length():
        return Reason(
            f"{beyond}, and both together take more than 8 bits", "Use a pad_value from 0 to 1, or fewer bits"
        )
    return code
