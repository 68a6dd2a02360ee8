"""Modules that hold one weight, which a program needs once."""

from __future__ import annotations

from torch import nn


def tied_weights(model: nn.Module) -> dict[str, str]:
    """Return the path of the first module that has a weight, for every other one that has the same Parameter."""
    first: dict[nn.Parameter, str] = {}
    owners = {}
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and first.setdefault(weight, path) != path:
            owners[path] = first[weight]
    return owners
