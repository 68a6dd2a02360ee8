"""From the names in a config to quantizers."""

from __future__ import annotations

from typing import Literal

from torch import nn

from .quantizations import (
    ApproxSign,
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    InputPACT,
    Quantization,
    Sign,
    WeightDoReFa,
    WeightLSQ,
)
from .quantizations.bits import FLOAT_BITS

Range = Literal["unit", "calibrated", "learned"]
LearnedBy = Literal["lsq", "lsq+", "pact"]
Weights = Literal["dorefa", "lsq", "twn", "ttq"]


def weight_quantizer(bits: int, method: Weights, layer: nn.Module, *, per_channel: bool) -> Quantization:
    """Return a new quantizer of a layer's weight."""
    if method == "lsq":
        return WeightLSQ(bits, _output_channels(layer) if per_channel else None)
    if method == "dorefa" or bits == FLOAT_BITS:
        return WeightDoReFa(bits, variant="paper", per_channel=per_channel)
    raise ValueError(f"weights={method!r} is not known")


def activation_quantizer(
    bits: int,
    range: Range,
    learned_by: LearnedBy,
    sign: str | None,
    layer: nn.Module,
    calibration: str,
    percentile: float,
) -> Quantization:
    """Return a new quantizer of a layer's input."""
    if sign == "sign":
        return Sign()
    if sign == "approxsign":
        return ApproxSign()
    if range == "calibrated":
        return InputCalibrated(bits, calibration=calibration, percentile=percentile)
    if range == "unit":
        return InputDoReFa(bits, variant="paper")
    if learned_by == "pact":
        return InputPACT(bits, calibration=calibration, percentile=percentile)
    return InputLSQ(bits, offset=learned_by == "lsq+", calibration=calibration, percentile=percentile)


def _output_channels(layer: nn.Module) -> int:
    """Return how many output channels a layer's weight has, as its quantizer sees it: dim 0."""
    for name in ("out_channels", "out_features", "num_embeddings"):
        if isinstance(channels := getattr(layer, name, None), int):
            return channels
    raise ValueError(
        f'{type(layer).__name__} has no output channels that a scale could be for; use weight_scale="layer"'
    )
