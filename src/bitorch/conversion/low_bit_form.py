"""A float layer and its low-bit form, with the quantizers that a config gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from ..layers import (
    Attention,
    QAttention,
    QConv1d,
    QConv2d,
    QConv3d,
    QEmbedding,
    QEmbeddingBag,
    QMultiheadAttention,
    QTransposedLinear,
)
from ..layers.composed import Composed
from ..layers.integer_kernels import Kernels
from ..layers.low_bit import Converted, LowBit, WeightQuantized
from ..layers.qattention import float_projections
from ..quantizations import Identity, Quantization
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.sign_grid import SignGrid
from .convertible import low_bit_class
from .table import pad_value_of

_PADDED = (QConv1d, QConv2d, QConv3d)

#: What a config gives a layer, by the names of a low-bit layer's arguments; None for a layer that stays float.
QuantizersOf = Callable[[nn.Module], Mapping[str, Quantization | None] | None]


def low_bit_form(
    layer: nn.Module, quantizers_of: QuantizersOf, *, exact: bool, pad_value: float, kernels: Kernels
) -> Converted | None:
    """Return a low-bit layer with a float layer's parameters, hooks and settings; None where it stays float.

    Args:
        pad_value: of borders in front of ±1 activations; others keep the float layer's zeros.

    Raises:
        ValueError: the layer is too wide for exact sums, or kernels="integer" and something is in the way.
    """
    kind = low_bit_class(type(layer))
    assert kind is not None  # `reasons_to_stay_float` has looked
    if issubclass(kind, Composed):
        return _composed(kind, layer, quantizers_of, exact=exact, kernels=kernels)
    quantizers = quantizers_of(_with_channels(kind, layer))
    if quantizers is None:
        return None
    if isinstance(layer, Attention):
        return QAttention._sharing(layer, **quantizers, exact=exact)
    if issubclass(kind, QEmbedding | QEmbeddingBag):
        return _embedding(kind, layer, quantizers["weight_quantization"])
    borders = {"pad_value": _pad_value(quantizers, pad_value)} if issubclass(kind, _PADDED) else {}
    return kind._sharing(
        layer, **quantizers, **borders, gradient_cancellation_threshold=0.0, exact=exact, kernels=kernels
    )


def _with_channels(kind: type[Converted], layer: nn.Module) -> nn.Module:
    """Return the layer, or what says by the names of PyTorch how many channels it has."""
    if kind is not QTransposedLinear:
        return layer
    inputs, outputs = cast(Tensor, layer.weight).shape
    return nn.Linear(inputs, outputs, device="meta")


def _pad_value(quantizers: Mapping[str, Quantization | None], of_signs: float) -> float:
    quantizer = quantizers["input_quantization"]
    return of_signs if isinstance(quantizer, SignGrid) else 0.0


def _embedding(
    kind: type[QEmbedding | QEmbeddingBag], layer: nn.Module, weight: Quantization | None
) -> QEmbedding | QEmbeddingBag | None:
    """Indices have no levels and rows no product that a gradient would go through: only the table is quantized."""
    if weight is None or weight.bit_width == FLOAT_BITS:
        return None
    return kind._sharing(layer, weight_quantization=weight, output_quantization=Identity())


def _composed(
    kind: type[Composed], layer: nn.Module, quantizers_of: QuantizersOf, *, exact: bool, kernels: Kernels
) -> Composed | None:
    projections = {}
    for name, projection in _float_projections(layer).items():
        quantizers = quantizers_of(projection)
        if quantizers is None:
            return None
        settings = {"gradient_cancellation_threshold": 0.0, "exact": exact, "kernels": kernels}
        projections[name] = {**quantizers, **settings}
    if not isinstance(layer, nn.MultiheadAttention):
        return kind._sharing(layer, projections=projections)
    between = quantizers_of(Attention())
    attention = None if between is None else QAttention(**between, exact=exact)
    return kind._sharing(layer, projections=projections, attention=attention)


def _float_projections(layer: nn.Module) -> dict[str, nn.Linear]:
    """Return linear layers of the sizes of a layer's matrices, on the meta device, by the low-bit parts' names."""
    if isinstance(layer, nn.MultiheadAttention):
        return float_projections(layer)
    matrices = {name: weight for name, weight in layer.named_parameters(recurse=False) if name.startswith("weight_")}
    return {
        name.removeprefix("weight_"): nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        for name, weight in matrices.items()
    }


def is_as_wanted(
    layer: Converted, quantizers_of: QuantizersOf, *, exact: bool, pad_value: float, kernels: Kernels
) -> bool:
    """Return whether a layer that is low-bit already is what `low_bit_form` would make of its float layer."""
    if isinstance(layer, Composed):
        parts: list[Converted] = [*layer.projections().values()]
        if isinstance(layer, QMultiheadAttention):
            between = quantizers_of(Attention())
            if (between is None) != (layer.attention is None):
                return False
            parts += [] if layer.attention is None else [layer.attention]
        settings: dict[str, Any] = {"exact": exact, "pad_value": pad_value, "kernels": kernels}
        return all(is_as_wanted(part, quantizers_of, **settings) for part in parts)
    quantizers = quantizers_of(layer)
    wanted = {} if quantizers is None else quantizers
    if isinstance(layer, QAttention):
        is_same = all(repr(has) == repr(wanted.get(name)) for name, has in layer.quantizers().items())
        return is_same and layer.scores.exact == layer.values.exact == exact
    padded = pad_value_of(layer)
    if padded is not None and wanted and padded != _pad_value(wanted, pad_value):
        return False
    if isinstance(layer, LowBit):
        if layer.exact != exact or layer.kernels != kernels:
            return False
        return all(repr(has) == repr(wanted.get(name)) for name, has in _has(layer).items())
    assert isinstance(layer, WeightQuantized)
    return repr(layer.weight_quantization) == repr(wanted.get("weight_quantization"))


def _has(layer: LowBit) -> dict[str, Quantization | None]:
    gradient = layer.gradient_quantization
    return {
        "weight_quantization": layer.weight_quantization,
        "input_quantization": layer.input_quantization,
        # `set_bits` leaves a quantizer where gradients became float.
        "gradient_quantization": None if gradient is None or gradient.bit_width == FLOAT_BITS else gradient,
    }
