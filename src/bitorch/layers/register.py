"""The registries of the layers whose implementation depends on the mode, and how an engine registers one of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .extensions.layer_registration import LayerImplementation
from .extensions.model_registry import ModelRegistry, convert_live_layers

if TYPE_CHECKING:
    import torch

q_linear_registry = ModelRegistry("QLinear")
q_conv1d_registry = ModelRegistry("QConv1d")
q_conv2d_registry = ModelRegistry("QConv2d")
q_conv3d_registry = ModelRegistry("QConv3d")


def all_layer_registries() -> list[ModelRegistry]:
    """Return the registries of all layers whose implementation depends on the mode."""
    return [q_linear_registry, q_conv1d_registry, q_conv2d_registry, q_conv3d_registry]


def convert_layers_to(
    new_mode: int, only: Iterable[Any] | None = None, device: torch.device | str | None = None, verbose: bool = False
) -> None:
    """Exchange layers for those of another mode, wherever a model that is alive holds them: all of them, or none.

    Args:
        new_mode: a mode, or a sum of them.
        only: the layers to change, among other things, such as `model.modules()`; None: all that are alive.
        device: where the new layers shall be.
        verbose: prints a line for each.

    Raises:
        RuntimeError: a layer that no implementation takes.
        ValueError: a layer of `only` that no module holds, so that it cannot be exchanged.
    """
    convert_live_layers(all_layer_registries(), new_mode, only, device, verbose=verbose)


class QLinearImplementation(LayerImplementation):
    """Decorator: registers a class as an implementation of QLinear for a mode, or a sum of modes."""

    def __init__(self, supports_modes: int) -> None:
        super().__init__(q_linear_registry, supports_modes)


class QConv1dImplementation(LayerImplementation):
    """Decorator: registers a class as an implementation of QConv1d for a mode, or a sum of modes."""

    def __init__(self, supports_modes: int) -> None:
        super().__init__(q_conv1d_registry, supports_modes)


class QConv2dImplementation(LayerImplementation):
    """Decorator: registers a class as an implementation of QConv2d for a mode, or a sum of modes."""

    def __init__(self, supports_modes: int) -> None:
        super().__init__(q_conv2d_registry, supports_modes)


class QConv3dImplementation(LayerImplementation):
    """Decorator: registers a class as an implementation of QConv3d for a mode, or a sum of modes."""

    def __init__(self, supports_modes: int) -> None:
        super().__init__(q_conv3d_registry, supports_modes)
