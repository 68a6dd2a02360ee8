"""The bytes of a model's parameters, from their bits alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..layers.low_bit import WeightQuantized
from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.weight_groups import GroupedWeight

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of a model's parameters: all in float32, and with low-bit weights packed.

    A packed weight takes its bits, rounded up to whole bytes, and its scales in float32, such as one for each channel.
    All other parameters (biases, batch norm, float layers) stay float32; what quantizers have learned does not count.
    Parameters that are shared count once.
    """

    float32: int
    packed: int


def weight_bytes(model: nn.Module) -> WeightBytes:
    """Return the bytes of a model's parameters, float and packed."""
    pieces: dict[int, dict[int, tuple[int, int, int]]] = {}  # numbers, bits and scales by the offset in a parameter
    learned = {id(p) for module in model.modules() if isinstance(module, Quantization) for p in module.parameters()}
    for layer in model.modules():
        if isinstance(layer, WeightQuantized):
            weight = layer.weight
            whole = weight if weight._base is None else weight._base  # a projection has rows of a parameter
            piece = weight.numel(), layer.weight_quantization.bit_width, scales_of(layer)
            pieces.setdefault(id(whole), {})[int(weight.storage_offset())] = piece
    float32 = packed = 0
    for parameter in (p for p in model.parameters() if id(p) not in learned):
        float32 += _FLOAT_BYTES * parameter.numel()
        whole_in_float = {0: (parameter.numel(), FLOAT_BITS, 0)}
        for size, width, scales in pieces.get(id(parameter), whole_in_float).values():
            is_packed = 0 < width < FLOAT_BITS  # a custom quantizer may not say its bits
            packed += -(-size * width // 8) + _FLOAT_BYTES * scales if is_packed else _FLOAT_BYTES * size
    return WeightBytes(float32, packed)


def scales_of(layer: WeightQuantized) -> int:
    """Return how many scales a layer's quantized weight has."""
    quantizer = layer.weight_quantization
    if isinstance(quantizer, GroupedWeight) and quantizer.group_size is not None:
        return layer.weight.numel() // quantizer.group_size
    if quantizer.exact_max_code is None:  # such as ternary values with a scale each
        return max(1, sum(parameter.numel() for parameter in quantizer.parameters()))
    with torch.no_grad():
        return quantizer.scale(layer._quantizer_weight()).numel()
