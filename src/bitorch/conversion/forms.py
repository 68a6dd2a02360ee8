"""A float layer and its low-bit form, with the quantizers that a config gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from ..layers import QEmbedding, QEmbeddingBag, QMultiheadAttention
from ..layers.low_bit import Converted, LowBit, WeightQuantized
from ..layers.qattention import float_projections
from ..quantizations import Identity, Quantization
from ..quantizations.bits import FLOAT_BITS
from .kinds import LOW_BIT

#: What a config gives a layer, by the names of a low-bit layer's arguments; None for a layer that stays float.
QuantizersOf = Callable[[nn.Module], Mapping[str, Quantization | None] | None]


def low_bit_form(layer: nn.Module, quantizers_of: QuantizersOf, *, exact: bool) -> Converted | None:
    """Return a low-bit layer with a float layer's parameters, hooks and settings; None where it stays float.

    Raises:
        ValueError: the layer is too wide for exact sums.
    """
    kind = LOW_BIT[type(layer)]
    if isinstance(layer, nn.MultiheadAttention):
        return _attention(layer, quantizers_of, exact=exact)
    quantizers = quantizers_of(layer)
    if quantizers is None:
        return None
    if issubclass(kind, QEmbedding | QEmbeddingBag):
        return _embedding(kind, layer, quantizers["weight_quantization"])
    return kind._sharing(layer, **quantizers, gradient_cancellation_threshold=0.0, exact=exact)


def _embedding(
    kind: type[QEmbedding | QEmbeddingBag], layer: nn.Module, weight: Quantization | None
) -> QEmbedding | QEmbeddingBag | None:
    """Indices have no levels and rows no product that a gradient would go through: only the table is quantized."""
    if weight is None or weight.bit_width == FLOAT_BITS:
        return None
    return kind._sharing(layer, weight_quantization=weight, output_quantization=Identity())


def _attention(layer: nn.MultiheadAttention, quantizers_of: QuantizersOf, *, exact: bool) -> QMultiheadAttention | None:
    projections = {}
    for name, projection in float_projections(layer).items():
        quantizers = quantizers_of(projection)
        if quantizers is None:
            return None
        projections[name] = {**quantizers, "gradient_cancellation_threshold": 0.0, "exact": exact}
    return QMultiheadAttention._sharing(layer, projections=projections)


def is_as_wanted(layer: Converted, quantizers_of: QuantizersOf, *, exact: bool) -> bool:
    """Return whether a layer that is low-bit already is what `low_bit_form` would make of its float layer."""
    if isinstance(layer, QMultiheadAttention):
        return all(is_as_wanted(part, quantizers_of, exact=exact) for part in layer.projections().values())
    quantizers = quantizers_of(layer)
    wanted = {} if quantizers is None else quantizers
    if isinstance(layer, LowBit):
        return layer.exact == exact and all(repr(has) == repr(wanted.get(name)) for name, has in _has(layer).items())
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
