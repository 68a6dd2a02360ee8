"""Linear layers whose weights alone have few bits: what the runtime multiplies floats with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import QActivation
from ..layers.input_quantizer import gives_its_quantizers_values
from ..layers.low_bit import LowBit
from ..quantizations import Identity, InputCalibrated, InputLSQ, Quantization
from ..quantizations.base import Grid
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.own_values import is_as_made
from ..quantizations.weight_groups import GroupedWeight
from .asked_arithmetic import Reason
from .packable import LINEAR, changes_nothing, packed_codes

#: What gives its input, with 32 bits.
_FLOAT_INPUTS = (Identity, InputCalibrated, InputLSQ)


@dataclass(frozen=True, eq=False)
class WeightOnly:
    """A weight in codes with a scale for each group of inputs, beside inputs that stay floats.

    Attributes:
        codes: [out_features, in_features], float32 or float64; NaN where the weight is.
        bits, grid: what they are stored in.
        scale: [out_features, groups], float32; one group where all inputs of a channel share it.
    """

    codes: Tensor
    bits: int
    grid: Grid
    scale: Tensor


def has_float_inputs(layer: LowBit) -> bool:
    """Say whether a layer multiplies its input as it is by a weight of fewer bits."""
    return leaves_inputs(layer) and layer.weight_quantization.bit_width != FLOAT_BITS


def leaves_inputs(layer: LowBit) -> bool:
    """Say whether a layer multiplies its input as it is."""
    quantizer = layer.input_quantization
    kind = type(quantizer)
    if kind not in _FLOAT_INPUTS or quantizer.bit_width != FLOAT_BITS:
        return False
    if not all(is_as_made(quantizer, kind, name) for name in ("quantize", "forward")):
        return False
    activation = layer.activation
    return not isinstance(activation, QActivation) or gives_its_quantizers_values(activation)


def weight_only(layer: LowBit) -> WeightOnly | Reason:
    """Say what a layer that `has_float_inputs` is in the runtime, or why it can be nothing there."""
    if type(layer) not in LINEAR:
        return Reason(
            f"its input quantizer {layer.input_quantization} leaves floats, which the runtime multiplies by low-bit "
            "weights in linear layers only",
            "Give it an input quantizer of 1 to 8 bits, or a float layer instead",
        )
    if not changes_nothing(layer.gradient_quantization):
        return Reason(
            f"its gradient quantizer {layer.gradient_quantization} may change the result, not only the gradient",
            "Set layer.gradient_quantization = None",
        )
    if layer.weight.numel() == 0:
        return Reason(f"its weight is empty: {tuple(layer.weight.shape)}", "Use a layer with inputs and outputs")
    with torch.no_grad():
        return _of_weight(layer.weight_quantization, layer._current_weight())


def _of_weight(quantizer: Quantization, weight: Tensor) -> WeightOnly | Reason:
    grouped = quantizer.group_codes(weight) if isinstance(quantizer, GroupedWeight) else None
    if grouped is not None:
        return WeightOnly(grouped.codes, quantizer.bit_width, quantizer.grid, grouped.scale.float().contiguous())
    if quantizer.exact_max_code is None:
        return Reason(
            f"its weight quantizer {quantizer} {quantizer.why_no_codes}, so there are no codes to store",
            "Use one that has (1 to 8 bits), or a float layer instead",
        )
    found = packed_codes(quantizer, weight)
    if isinstance(found, Reason):
        return found
    scale = quantizer.scale(weight).float().reshape(-1, 1)
    return WeightOnly(*found, quantizer.grid, scale.expand(len(weight), 1).contiguous())
