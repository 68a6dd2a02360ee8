"""Layers that hold one weight, as an embedding and the head of a language model: its quantizer is one, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from ..layers.low_bit import WeightQuantized
from .step import Step


def with_shared_quantizers(steps: Sequence[Step]) -> list[Step]:
    """Give new layers that hold the weight of another low-bit layer the quantizer of that one.

    So what is learned of the weight's levels is one, and the codes stay equal. Layers that are low-bit already keep
    their quantizers, and one that stays float reads the weight as it is.

    Returns:
        The steps, with rows that say so.

    Raises:
        ValueError: two layers would quantize one weight in two ways.
    """
    first: dict[nn.Parameter, tuple[str, WeightQuantized]] = {}
    for step in sorted(steps, key=lambda step: step.replacement is not None):  # those that stay first
        layer = step.module if step.replacement is None else step.replacement
        weight = _quantized_parameter(layer)
        if weight is not None and isinstance(layer, WeightQuantized):
            first.setdefault(weight, (step.row.name, layer))
    return [_sharing(step, first) for step in steps]


def _quantized_parameter(layer: nn.Module) -> nn.Parameter | None:
    """Return the Parameter that a low-bit layer's quantizer sees; None where that sees another order, or a result."""
    weight = layer._parameters.get("weight")
    is_seen = isinstance(layer, WeightQuantized) and weight is not None and layer._quantizer_weight() is weight
    return weight if is_seen else None


def _sharing(step: Step, first: dict[nn.Parameter, tuple[str, WeightQuantized]]) -> Step:
    layer = step.replacement
    weight = None if layer is None else _quantized_parameter(layer)
    if weight is None or not isinstance(layer, WeightQuantized):
        return step
    name, other = first[weight]
    if other is layer:
        return step
    mine, theirs = layer.weight_quantization, other.weight_quantization
    if repr(mine) != repr(theirs):
        raise ValueError(
            f"layers {name!r} and {step.row.name!r} hold one weight, which cannot have both {theirs} and {mine}; give "
            "both layers the same (first=, last= and rules say which), or untie them: "
            "layer.weight = nn.Parameter(layer.weight.detach().clone())"
        )
    layer._put("weight_quantization", theirs)
    note = "; ".join(filter(None, [step.row.note, f"weight of {name!r}"]))
    return dataclasses.replace(step, row=dataclasses.replace(step.row, note=note))
