"""What nodes of low-bit layers and quantizers hold of them: tensors and numbers, so that the passes need no module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....layers import QConvTranspose1d, QConvTranspose2d, QConvTranspose3d, QLinear
from ....layers.low_bit import LowBit
from ....quantizations.arithmetic import Arithmetic
from ...packable import Packing, weight_scales
from ...weight_only import WeightOnly
from .windows import with_leading_axes

_Rows = tuple[int, ...]


def layer_settings(
    layer: LowBit, packing: Packing, arithmetic: Arithmetic, rows: tuple[_Rows, _Rows]
) -> dict[str, Any]:
    """Return the settings of a `low_bit` node, see `kinds`.

    Args:
        rows: the row axes of its input and of its result, [batch, C, *rows] both.
    """
    largest = layer._max_codes()
    assert largest is not None  # it can be packed
    with torch.no_grad():
        scale = weight_scales(layer)
        if not arithmetic.by_row:
            scale = layer.input_quantization.scale(layer.weight).to(scale.dtype) * scale
        bias = layer.bias
        assert bias is None or isinstance(bias, Tensor)
        settings: dict[str, Any] = quantizer_settings(arithmetic) | {
            "weight": packing.weight,
            "weight_bits": packing.weight_bits,
            "weight_grid": packing.weight_grid,
            "largest": largest,
            "scale": scale.reshape(1) if scale.dim() == 0 else scale,
            "bias": None if bias is None else bias.clone(),
        }
    if isinstance(layer, QLinear):
        return settings
    is_transposed = isinstance(layer, QConvTranspose1d | QConvTranspose2d | QConvTranspose3d)
    lead = len(rows[0]) - (layer.weight.dim() - 2)  # row axes of which the layer's window knows nothing
    own = rows[0][lead:], rows[1][lead:]
    geometry = _transposed_geometry(layer, *own) if is_transposed else _geometry(layer)
    settings["weight"] = with_leading_axes(settings["weight"], lead)
    return settings | _behind(geometry, lead) | {"pad_code": packing.pad_code}


def weight_only_settings(layer: LowBit, found: WeightOnly) -> dict[str, Any]:
    """Return the settings of a `weight_only` node, see `kinds`."""
    bias = layer.bias
    assert bias is None or isinstance(bias, Tensor)
    return {
        "weight": found.codes,
        "weight_bits": found.bits,
        "weight_grid": found.grid,
        "scale": found.scale,
        "bias": None if bias is None else bias.detach().clone(),
    }


def _behind(geometry: dict[str, Any], lead: int) -> dict[str, Any]:
    """A geometry with as many axes in front, along which the window is one place."""
    ones: dict[str, tuple[int, ...]] = {"kernel_size": (1,), "stride": (1,), "dilation": (1,), "output_padding": (0,)}
    ones["padding"] = (0,) if "output_padding" in geometry else (0, 0)
    return {key: ones[key] * lead + value if key in ones else value for key, value in geometry.items()}


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


def _geometry(layer: Any) -> dict[str, Any]:
    return _window(layer) | {"padding": tuple(width for border in layer._borders() for width in border)}


def _window(layer: Any) -> dict[str, Any]:
    return {
        "kernel_size": tuple(layer.kernel_size),
        "stride": tuple(layer.stride),
        "dilation": tuple(layer.dilation),
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
    }


def _transposed_geometry(layer: Any, rows: _Rows, result: _Rows) -> dict[str, Any]:
    """What the layer adds to its result is told from the result's size, which its caller may have asked for."""
    window = _window(layer)
    settings = (window[key] for key in ("kernel_size", "stride", "dilation"))
    axes = zip(rows, result, *settings, layer.padding, strict=True)
    more = tuple(made - ((size - 1) * s + d * (k - 1) + 1 - 2 * p) for size, made, k, s, d, p in axes)
    return window | {"padding": tuple(layer.padding), "output_padding": more}
