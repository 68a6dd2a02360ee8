"""What nodes of low-bit layers and quantizers hold of them: tensors and numbers, so that the passes need no module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....layers import QConv1d, QConv2d, QLinear
from ....quantizations.arithmetic import Arithmetic
from ...packable import Packing


def layer_settings(layer: QConv1d | QConv2d | QLinear, packing: Packing, arithmetic: Arithmetic) -> dict[str, Any]:
    """Return the settings of a `low_bit` node, see `kinds`."""
    largest = layer._max_codes()
    assert largest is not None  # it can be packed
    with torch.no_grad():
        scale = layer.weight_quantization.scale(layer.weight)
        scale = layer.input_quantization.scale(layer.weight).to(scale.dtype) * scale
        settings = quantizer_settings(arithmetic) | {
            "weight": packing.weight,
            "weight_bits": packing.weight_bits,
            "weight_grid": packing.weight_grid,
            "largest": largest,
            "scale": scale.flatten(),
            "bias": None if layer.bias is None else layer.bias.clone(),
        }
    return settings if isinstance(layer, QLinear) else settings | _geometry(layer) | {"pad_code": packing.pad_code}


def quantizer_settings(arithmetic: Arithmetic) -> dict[str, Any]:
    """Return the settings of a `quantizer` node: what it computes before rounding, and what its codes stand for."""
    return {
        "form": arithmetic.form,
        "bits": arithmetic.bits,
        "divide": _flat(arithmetic.divide),
        "plus": _flat(arithmetic.plus),
        "zero_point": arithmetic.zero_point,
        "code_scale": arithmetic.step,
        "keeps_nan": arithmetic.keeps_nan,
    }


def _flat(numbers: Tensor | None) -> Tensor | None:
    return None if numbers is None else numbers.flatten()


def _geometry(layer: QConv1d | QConv2d) -> dict[str, Any]:
    return {
        "kernel_size": tuple(layer.kernel_size),
        "stride": tuple(layer.stride),
        "padding": tuple(width for border in layer._borders() for width in border),
        "dilation": tuple(layer.dilation),
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
    }
