"""The bytes of a model's parameters, from their bits alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..layers.low_bit import WeightQuantized
from ..quantizations.bits import FLOAT_BITS

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of a model's parameters: all in float32, and with low-bit weights packed.

    A packed weight takes its bits, rounded up to whole bytes, and one float32 scale. All other parameters (biases,
    batch norm, float layers) stay float32. Parameters that are shared count once.
    """

    float32: int
    packed: int


def weight_bytes(model: nn.Module) -> WeightBytes:
    """Return the bytes of a model's parameters, float and packed."""
    bits = {
        id(layer.weight): layer.weight_quantization.bit_width
        for layer in model.modules()
        if isinstance(layer, WeightQuantized)
    }
    float32 = packed = 0
    for parameter in model.parameters():
        size = parameter.numel()
        float32 += _FLOAT_BYTES * size
        width = bits.get(id(parameter), FLOAT_BITS)
        is_packed = 0 < width < FLOAT_BITS  # a custom quantizer may not say its bits
        packed += -(-size * width // 8) + _FLOAT_BYTES if is_packed else _FLOAT_BYTES * size
    return WeightBytes(float32, packed)
