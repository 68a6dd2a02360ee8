"""Where in a pass the first number appears that is NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..containers import tensors_in
from .layers import named_layers


@dataclass
class FirstNonFinite:
    """What `watch` has seen so far; None where everything was finite, "" for a model that has no parts.

    Attributes:
        output: the first layer, in the order of the calls, whose output is not finite.
        gradient: the first layer, in the order of the backward pass (so the last in that of the calls), where the
            gradient of the output is not finite.
    """

    output: str | None = None
    gradient: str | None = None


@contextmanager
def watch(model: nn.Module) -> Iterator[FirstNonFinite]:
    """Watch the forward and backward passes that are made inside, by hooks that are gone afterwards."""
    first = FirstNonFinite()

    def see_gradient(name: str, gradient: Tensor) -> None:
        if first.gradient is None and not is_finite(gradient):
            first.gradient = name

    def see_output(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        for tensor in floats_in(output):
            if first.output is None and not is_finite(tensor):
                first.output = name
            if tensor.requires_grad:
                tensor.register_hook(partial(see_gradient, name))

    handles = [module.register_forward_hook(partial(see_output, name)) for name, module in named_layers(model)]
    try:
        yield first
    finally:
        for handle in handles:
            handle.remove()


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite."""
    return bool(torch.isfinite(tensor.detach()).all())


def floats_in(value: Any) -> list[Tensor]:
    """Return the floating-point tensors of a module's output, whatever they are in."""
    return [tensor for tensor in tensors_in(value) if tensor.is_floating_point()]
