"""From the names in a config to quantizers."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..quantizations import (
    ApproxSign,
    GradientDoReFa,
    GradientLUQ,
    GradientQuantization,
    GradientSigned,
    InputCalibrated,
    InputDoReFa,
    InputDynamic,
    InputLSQ,
    InputPACT,
    Quantization,
    RSign,
    Sign,
    WeightAbsMax,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightSEQ,
    WeightTTQ,
    WeightTWN,
)
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.layer_sizes import input_channels, output_channels

Range = Literal["unit", "calibrated", "learned", "dynamic"]
LearnedBy = Literal["lsq", "lsq+", "pact"]
Weights = Literal["dorefa", "lsq", "seq", "twn", "absmean", "absmax", "ttq"]
SignGradient = Literal["sign", "approxsign", "rsign"]
Gradients = Literal["dorefa", "signed", "luq"]
Scale = Literal["free", "pow2"]
#: Weights whose scale may be one for each group of inputs.
IN_GROUPS = ("absmax", "absmean", "twn")


def weight_quantizer(
    bits: int, method: Weights, layer: nn.Module, *, per_channel: bool, power_of_two: bool, group_size: int | None
) -> Quantization:
    """Return a new quantizer of a layer's weight."""
    if method == "lsq":
        return WeightLSQ(bits, output_channels(layer) if per_channel else None, power_of_two)
    if method == "seq":
        return WeightSEQ(bits, output_channels(layer) if per_channel else None)
    if method == "dorefa" or bits == FLOAT_BITS:
        return WeightDoReFa(bits, variant="paper", per_channel=per_channel)
    if method == "ttq":
        return WeightTTQ()
    if method == "absmax":
        return WeightAbsMax(bits, per_channel, group_size)
    return (WeightTWN if method == "twn" else WeightAbsMean)(per_channel, group_size)


def activation_quantizer(
    bits: int,
    range: Range,
    learned_by: LearnedBy,
    sign: SignGradient | None,
    layer: nn.Module,
    calibration: str,
    percentile: float,
    power_of_two: bool,
) -> Quantization:
    """Return a new quantizer of a layer's input."""
    if sign == "sign":
        return Sign()
    if sign == "approxsign":
        return ApproxSign()
    if sign == "rsign":
        return RSign(*input_channels(layer))
    if range == "calibrated":
        return InputCalibrated(bits, calibration=calibration, percentile=percentile)
    if range == "unit":
        return InputDoReFa(bits, variant="paper")
    if range == "dynamic":
        return InputDynamic(bits)
    if learned_by == "pact":
        return InputPACT(bits, calibration=calibration, percentile=percentile)
    offset = learned_by == "lsq+"
    return InputLSQ(bits, offset=offset, calibration=calibration, percentile=percentile, power_of_two=power_of_two)


def attention_quantizer(
    bits: int, range: Range, sign: SignGradient | None, calibration: str, percentile: float, power_of_two: bool
) -> Quantization:
    """Return a new quantizer of queries, keys or values, which have signs."""
    if bits == 1:
        return ApproxSign() if sign == "approxsign" else Sign()
    if range in ("calibrated", "dynamic"):
        return InputCalibrated(bits, calibration=calibration, percentile=percentile)
    return InputLSQ(bits, calibration=calibration, percentile=percentile, power_of_two=power_of_two)


def gradient_quantizer(bits: int, method: Gradients, *, noise: bool) -> GradientQuantization | None:
    """Return a new quantizer of the gradient of a layer's output; None for 32 bits."""
    if bits == FLOAT_BITS:
        return None
    kinds = {"dorefa": GradientDoReFa, "signed": GradientSigned, "luq": GradientLUQ}
    return kinds[method](bits, noise=noise)
