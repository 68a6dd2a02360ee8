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
    pieces: dict[int, dict[int, tuple[int, int]]] = {}  # numbers and bits by the offset in a parameter
    for layer in model.modules():
        if isinstance(layer, WeightQuantized):
            weight = layer.weight
            whole = weight if weight._base is None else weight._base  # a projection has rows of a parameter
            piece = weight.numel(), layer.weight_quantization.bit_width
            pieces.setdefault(id(whole), {})[int(weight.storage_offset())] = piece
    float32 = packed = 0
    for parameter in model.parameters():
        float32 += _FLOAT_BYTES * parameter.numel()
        whole_in_float = {0: (parameter.numel(), FLOAT_BITS)}
        for size, width in pieces.get(id(parameter), whole_in_float).values():
            is_packed = 0 < width < FLOAT_BITS  # a custom quantizer may not say its bits
            packed += -(-size * width // 8) + _FLOAT_BYTES if is_packed else _FLOAT_BYTES * size
    return WeightBytes(float32, packed)
