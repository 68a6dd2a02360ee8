"""A float layer and its low-bit form, with the quantizers that a config gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from ..layers import QEmbedding, QEmbeddingBag
from ..layers.low_bit import Converted, LowBit
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
    if weight is None or weight.max_code is None:
        return None
    return kind._sharing(layer, weight_quantization=weight, output_quantization=Identity())


def is_as_wanted(layer: Converted, quantizers_of: QuantizersOf, *, exact: bool) -> bool:
    """Return whether a layer that is low-bit already is what `low_bit_form` would make of its float layer."""
    quantizers = quantizers_of(layer)
    wanted = {} if quantizers is None else quantizers
    if isinstance(layer, LowBit):
        return layer.exact == exact and all(repr(has) == repr(wanted.get(name)) for name, has in _has(layer).items())
    return repr(layer.weight_quantization) == repr(wanted.get("weight_quantization"))


def _has(layer: LowBit) -> dict[str, Quantization | None]:
    gradient = layer.gradient_quantization
    return {
        "weight_quantization": layer.weight_quantization,
        "input_quantization": layer.input_quantization,
        # `set_bits` leaves a quantizer where gradients became float.
        "gradient_quantization": None if gradient is None or gradient.bit_width == FLOAT_BITS else gradient,
    }
