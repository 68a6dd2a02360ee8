"""The layer that another one stands for, its recipe, and what it learns from that when it comes back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .layer_recipe import LayerRecipe

#: Where a layer that was put in the place of another one keeps that, in its `__dict__`, so that it is no submodule.
_REFERENCE = "_reference_layer"


def reference_of(layer: object) -> nn.Module | None:
    """Return the layer of this package that another one stands for; None if it stands for itself."""
    found: nn.Module | None = getattr(layer, "__dict__", {}).get(_REFERENCE)
    return found


def stands_for(layer: nn.Module, reference: nn.Module) -> None:
    """Have a layer keep the one that it was made from, which is no part of it: neither submodule nor in state_dict."""
    layer.__dict__[_REFERENCE] = reference


class WithRecipe:
    """Mixin: BITorch's way to ask a layer what it was made from."""

    @property
    def recipe(self) -> LayerRecipe:
        """The layer of this package that this one was made from, and the arguments with which that is constructed."""
        reference = reference_of(self)
        if reference is None:
            raise AttributeError(f"{type(self).__name__} was made by itself, and has no recipe")
        found: LayerRecipe = reference.recipe  # type: ignore[assignment]
        return found

    @property
    def layer_implementation(self) -> Any:
        """The layer itself: there is no container around it."""
        return self


def give_back(reference: nn.Module, layer: Any, path: str) -> None:
    """Have the layer that another one stands for learn what that has learned, before it comes back.

    It takes the tensors that both have under the same name, in the same shape, and goes to the other's device.

    Raises:
        ValueError: the other one holds numbers that have no way back.
    """
    check: Callable[[nn.Module], None] | None = getattr(layer, "check_made_from", None)
    if check is not None:
        check(reference)
    elif isinstance(layer, nn.Module):
        taken_over(reference, layer)
        lost = learned_elsewhere(reference, layer)
        if lost:
            warnings.warn(
                f"{path or 'the layer'}: {', '.join(lost)} of {type(layer).__name__}, which can be trained, is nothing "
                f"that a {type(reference).__name__} has; it comes back with the weights that it had before",
                stacklevel=6,
            )
        device = next((tensor.device for tensor in (*layer.parameters(), *layer.buffers())), None)
        if device is not None:
            reference.to(device)
    if isinstance(layer, nn.Module) and layer.training != reference.training:
        reference.train(layer.training)


def taken_over(new: nn.Module, old: nn.Module) -> list[str]:
    """Copy the parameters and buffers that two modules have under the same name, in the same shape; others' names.

    Returns:
        The names of the tensors of `new` that `old` has not.
    """
    given = {**dict(old.named_parameters()), **dict(old.named_buffers())}
    missing = []
    with torch.inference_mode(False), torch.no_grad():
        for name, tensor in (*new.named_parameters(), *new.named_buffers()):
            value = given.get(name)
            if value is None or value.shape != tensor.shape or _is_other_kind(value, tensor):
                missing.append(name)
            elif value is not tensor:
                tensor.copy_(value)
    return missing


def _is_other_kind(one: Tensor, other: Tensor) -> bool:
    return one.is_floating_point() != other.is_floating_point()


def learned_elsewhere(new: nn.Module, old: nn.Module) -> list[str]:
    """Return the names of what is trained in `old`, is no Parameter of `new`, and has no place there."""
    places = {name: tensor.shape for name, tensor in new.named_parameters()}
    own = {id(tensor) for tensor in new.parameters()}
    return [
        name
        for name, parameter in old.named_parameters()
        if parameter.requires_grad and id(parameter) not in own and places.get(name) != parameter.shape
    ]
