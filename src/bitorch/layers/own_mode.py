"""Whether a model's low-bit layers are there, or others stand in their places, for a runtime mode."""

from __future__ import annotations

from torch import nn

from .extensions.reference import reference_of
from .low_bit import WeightQuantized

REMEDY = "Bring the layers back first: bitorch.convert(model, bitorch.RuntimeMode.DEFAULT)"


def displaced(model: nn.Module) -> str:
    """Return which layers of a model stand in the places of low-bit ones, the first by name; "" where none does."""
    found = {
        name: module
        for name, module in model.named_modules()
        if reference_of(module) is not None and not isinstance(module, WeightQuantized)
    }
    if not found:
        return ""
    name, layer = next(iter(found.items()))
    more = f", and so are {len(found) - 1} more" if len(found) > 1 else ""
    return f"layer {name!r} is a {type(layer).__name__} in the place of a {type(reference_of(layer)).__name__}{more}"


def check_own_mode(model: nn.Module) -> None:
    """Raise a ValueError if others stand in the places of a model's low-bit layers."""
    found = displaced(model)
    if found:
        raise ValueError(f"{found}. {REMEDY}")
