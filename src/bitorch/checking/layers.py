"""The layers of a model as a user names them: without the parts that a quantized layer is made of."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..layers import QActivation
from ..layers.low_bit import WeightQuantized


def named_layers(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module as `named_modules` does, but nothing from inside of a quantized layer or activation."""
    seen: set[nn.Module] = set()

    def walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
        if module in seen:
            return
        seen.add(module)
        yield name, module
        if isinstance(module, WeightQuantized | QActivation):
            return
        for child_name, child in module.named_children():
            yield from walk(child, f"{name}.{child_name}" if name else child_name)

    yield from walk(model, prefix)
