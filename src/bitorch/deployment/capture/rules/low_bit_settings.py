"""What nodes of low-bit layers and quantizers hold of them: tensors and numbers, so that the passes need no module."""

from __future__ import annotations

from typing import Any

import torch

from ....layers import QConv1d, QConv2d, QLinear
from ....quantizations import Quantization, RangeQuantization, RSign
from ...graph.quantizer_kind import Form, form


def layer_settings(layer: QConv1d | QConv2d | QLinear) -> dict[str, Any]:
    """Return the settings of a `low_bit` node, see `kinds`; the layer has codes."""
    with torch.no_grad():
        settings = quantizer_settings(layer.input_quantization) | _weight_settings(layer)
    return settings if isinstance(layer, QLinear) else settings | _geometry(layer)


def quantizer_settings(quantizer: Quantization) -> dict[str, Any]:
    """Return the settings of a `quantizer` node: what it computes before rounding, and what its codes stand for."""
    settings: dict[str, Any] = {
        "form": _form(quantizer),
        "bits": quantizer.bit_width,
        "divide": None,
        "plus": None,
        "zero_point": quantizer.zero_point(),
        "code_scale": None,
    }
    with torch.no_grad():
        if isinstance(quantizer, RangeQuantization):
            settings |= {
                "divide": quantizer.width().clone().reshape(1),
                "code_scale": quantizer.scale(torch.zeros(1)).clone(),
            }
            if settings["zero_point"] != 0:
                settings["plus"] = (quantizer.zero() / (2**quantizer.bit_width - 1)).reshape(1)
        elif isinstance(quantizer, RSign):
            settings["plus"] = -quantizer.shift.detach().flatten()
    return settings


def _form(quantizer: Quantization) -> Form:
    """The form of a quantizer, behind the division and the addition."""
    if isinstance(quantizer, RangeQuantization):
        return "unit"
    if isinstance(quantizer, RSign):
        return "sign"
    found = form(quantizer)
    assert found is not None  # capture refuses the others
    return found


def _weight_settings(layer: QConv1d | QConv2d | QLinear) -> dict[str, Any]:
    quantizer, largest = layer.weight_quantization, layer._max_codes()
    assert largest is not None  # capture refuses layers without a grid
    scale = quantizer.scale(layer.weight)
    return {
        "weight": quantizer.codes(layer.weight),
        "weight_bits": quantizer.bit_width,
        "weight_grid": quantizer.grid,
        "largest": largest,
        "scale": (layer.input_quantization.scale(layer.weight).to(scale.dtype) * scale).flatten(),
        "bias": None if layer.bias is None else layer.bias.clone(),
    }


def _geometry(layer: QConv1d | QConv2d) -> dict[str, Any]:
    return {
        "kernel_size": tuple(layer.kernel_size),
        "stride": tuple(layer.stride),
        "padding": tuple(width for border in layer._borders() for width in border),
        "dilation": tuple(layer.dilation),
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
        "pad_code": _pad_code(layer),
    }


def _pad_code(layer: QConv1d | QConv2d) -> int:
    """The code that borders are filled with."""
    grid = layer.input_quantization.max_code
    assert grid is not None  # capture refuses layers without a grid
    return layer._pad_code(grid)
