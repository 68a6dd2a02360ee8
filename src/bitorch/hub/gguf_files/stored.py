"""What a tensor of a model is in a GGUF file: codes in blocks where a type has them, floats otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...layers.watched import is_watched
from ...quantizations import Quantization
from ...quantizations.bits import FLOAT_BITS
from ...quantizations.weight_groups import GroupedWeight
from .blocks import Array, BlockType, block_type, packed

#: Of matrices that are floats.
Floats = Literal["F32", "F16"]


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as it is written.

    Attributes:
        type: of GGUF, "F32" or "Q4_0".
        data: float32 or float16 of the tensor's shape, or uint8 [rows, bytes].
        shape: of the tensor, outputs first.
        difference: the largest difference of a value from the model's, as a share of that; 0 where all are equal.
        note: why it is not stored in fewer bits; "" of codes in blocks.
    """

    type: str
    data: Array
    shape: tuple[int, ...]
    difference: float
    note: str


def stored_floats(name: str, tensor: Tensor, floats: Floats, note: str = "float") -> Stored:
    """Return a tensor as floats; vectors are float32 always, which llama.cpp wants.

    Raises:
        ValueError: numbers that are not finite, or not as float16.
    """
    values = _array(tensor)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has numbers that are not finite; train again from a checkpoint where it has none")
    kind: Floats = floats if values.ndim > 1 else "F32"
    with np.errstate(over="ignore"):  # told below
        data = values.astype(np.float32 if kind == "F32" else np.float16, copy=False)
    if not np.isfinite(data).all():
        raise ValueError(f'{name} has {np.abs(values).max():g}, which {kind} cannot hold; pass floats="F32"')
    return Stored(kind, data, values.shape, _difference(data, values), note)


def stored_codes(name: str, quantizer: Quantization, weight: Tensor, floats: Floats) -> Stored:
    """Return a weight [outputs, inputs] as its codes in blocks, or its quantized values where no type has them.

    Raises:
        ValueError: numbers that are not finite; a scale that is none in float16.
    """
    with torch.no_grad():
        values = quantizer(weight)
        if quantizer.bit_width == FLOAT_BITS:
            return stored_floats(name, values, floats)
        found = _codes_and_scale(quantizer, weight)
    if found is None:
        return stored_floats(name, values, floats, f"values of {type(quantizer).__name__}, which has no codes")
    codes, scale = map(_array, found)
    if not (np.isfinite(codes).all() and np.isfinite(scale).all()):
        raise ValueError(f"{name} has numbers that are not finite; train again from a checkpoint where it has none")
    shared = codes.shape[1] // scale.shape[1]
    low, high = int(codes.min()), int(codes.max())
    kind = block_type(low, high, shared)
    if kind is None:
        return stored_floats(name, values, floats, f"values: no type has codes {low} … {high} in groups of {shared}")
    return _in_blocks(name, kind, codes, scale, _array(values))


def _codes_and_scale(quantizer: Quantization, weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return codes [outputs, inputs] and scales [outputs, groups]; None where they are not what a call gives."""
    if is_watched(quantizer) or weight.numel() == 0:
        return None
    grouped = quantizer.group_codes(weight) if isinstance(quantizer, GroupedWeight) else None
    if grouped is not None:
        return grouped.codes, grouped.scale
    if quantizer.exact_max_code is None:
        return None
    return quantizer.codes(weight), quantizer.scale(weight).reshape(-1, 1).expand(len(weight), 1)


def _in_blocks(name: str, kind: BlockType, codes: Array, scale: Array, values: Array) -> Stored:
    with np.errstate(over="ignore"):  # told below
        half = scale.astype(np.float16)
    written = codes * np.repeat(half.astype(codes.dtype), codes.shape[1] // scale.shape[1], axis=1)
    if not np.isfinite(half).all():
        raise ValueError(
            f"{name} has a scale of {np.abs(scale).max():g}, and float16, which {kind.name} has scales in, ends at "
            "65504; leave the layer float by a rule, or train with smaller weights"
        )
    is_lost = (written == 0) & (values != 0)
    if is_lost.any():
        raise ValueError(
            f"{name} has values of {np.abs(values[is_lost]).min():g} whose scale is 0 in float16, which {kind.name} "
            "has scales in; set weights as small as these to 0, leave the layer float by a rule, or take a larger "
            "group_size"
        )
    return Stored(kind.name, packed(kind, codes, half), codes.shape, _difference(written, values), "")


def _difference(written: Array, values: Array) -> float:
    """Return the largest difference of numbers that are not 0, as a share of them."""
    is_there = values != 0
    if not is_there.any():
        return 0.0
    return float(np.max(np.abs(written[is_there] / values[is_there] - 1)))


def _array(tensor: Tensor) -> Array:
    """Return a tensor's numbers, float32, or float64 of one that has these."""
    found: Array = (tensor if tensor.dtype == torch.float64 else tensor.float()).detach().cpu().numpy()
    return found
