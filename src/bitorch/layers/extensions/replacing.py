"""Layers of a model in the places of others, for a mode: all of them, or none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from ...runtime_mode import RuntimeMode, mode_name
from ..weight_readers import reads_weights
from ..weight_sources import computes_tensor
from .class_registry import ClassRegistry
from .layer_container import LayerContainer
from .layer_implementation import BaseImplementation
from .layer_recipe import LayerRecipe
from .layer_registry import NoImplementationError
from .reference import give_back, reference_of

if TYPE_CHECKING:
    import torch

#: What is called when a module is called or its gradient computed, by the attribute of nn.Module.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Request:
    """What a conversion was asked for: a mode for the layers of some registries, and where they shall be."""

    registries: Collection[ClassRegistry]
    mode: int
    device: torch.device | str | None


@dataclass(frozen=True)
class Change:
    """A layer, and what comes in its place: in a container, if the layer is one, and else in its parents."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        old = self.old.layer_implementation if isinstance(self.old, LayerContainer) else self.old
        return f"{self.path}: {type(old).__name__} → {type(self.new).__name__}"


def open_modules(module: nn.Module, registries: Collection[ClassRegistry]) -> Iterator[tuple[str, nn.Module]]:
    """Yield a module and those in it, with their paths, but for layers of the registries and what is inside of them."""
    seen: set[int] = set()
    waiting = [] if is_closed(module, registries) else [("", module)]
    while waiting:
        path, one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield path, one
        for name, child in one._modules.items():
            if child is not None and not is_closed(child, registries):
                waiting.append((joined(path, name), child))


def is_closed(module: object, registries: Collection[ClassRegistry]) -> bool:
    """Return whether this is a layer of one of the registries: what is inside of it is its own business."""
    return reference_of(module) is not None or any(module in registry for registry in registries)


def replace_layers(
    parents: Sequence[tuple[str, nn.Module]], request: Request, is_wanted: Callable[[Any], bool] = lambda layer: True
) -> list[Change]:
    """Exchange layers for those of a mode, in all of their parents.

    Args:
        parents: paths and modules, in which layers are looked for.
        is_wanted: says of a layer whether it is to be changed.

    Raises:
        RuntimeError: a layer for which there is no implementation that takes it; then nothing is changed.
    """
    layers: dict[int, tuple[str, Any]] = {}
    for path, parent in parents:
        for name, child in parent._modules.items():
            if child is not None and is_wanted(child):
                layers.setdefault(id(child), (joined(path, name), child))
    read = {id(inner) for _, parent in parents if reads_weights(parent) for inner in parent.modules()}
    changes: list[Change] = []
    refusals = []
    for path, layer in layers.values():
        try:
            change = _change(path, layer, request, is_read=id(layer) in read)
        except NoImplementationError as error:
            refusals.append(f"{path}: {error}" if path else str(error))
        else:
            changes.extend([change] if change is not None else [])
    if refusals:
        raise NoImplementationError("\n".join(refusals))
    _put(parents, [change for change in changes if change.new is not change.old])
    if request.device is not None:
        for change in changes:
            if change.new is change.old:
                change.old.to(request.device)
    return [change for change in changes if change.new is not change.old]


def joined(path: str, name: str) -> str:
    """Return the path of a child."""
    return f"{path}.{name}" if path else name


def _put(parents: Sequence[tuple[str, nn.Module]], changes: list[Change]) -> None:
    for change in changes:  # first, since a warning may be an error
        _warn_of_hooks(change)
    new = {}
    for change in changes:
        if isinstance(change.old, LayerContainer):
            change.old.replace_layer_implementation(change.new)
        else:
            new[id(change.old)] = change.new
    for _, parent in parents:
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]


def _change(path: str, layer: Any, request: Request, *, is_read: bool) -> Change | None:
    """Return what to change about a layer, which may be nothing; None where it is no business of the registries."""
    if isinstance(layer, LayerContainer):
        registry = next((one for one in request.registries if layer in one), None)
        if registry is None:
            return None
        return Change(path, layer, registry.replacement_in(layer, request.mode, request.device))
    reference = reference_of(layer)
    reference = layer if reference is None else reference
    registry = next((one for one in request.registries if vars(type(reference)).get("_registry") is one), None)
    if registry is None:
        _warn_of_subclass(path, layer, request)
        return None
    new = _new_layer(path, layer, reference, registry, request)
    if is_read and new is not layer:
        raise NoImplementationError(
            f"{registry.name}: no implementation(s) of this layer for the mode {mode_name(request.mode)} can be taken: "
            "its parent reads the weight without calling it"
        )
    return Change(path, layer, new)


def _new_layer(path: str, layer: Any, reference: nn.Module, registry: ClassRegistry, request: Request) -> Any:
    """Return what is to stand in the place of a layer, which was made from the reference, or is it."""
    recipe: LayerRecipe = reference.recipe  # type: ignore[assignment]  # a property of these classes
    if type(reference) is registry.reference:
        implementation = registry.get_layer(request.mode, recipe)
    else:  # a part of another layer, which engines know nothing of
        implementation = registry.get_layer_of_part(request.mode, recipe)
    if type(layer) is implementation.class_:
        return layer
    if layer is not reference:
        give_back(reference, layer, path)
    new = registry.replacement_by(implementation, recipe, request.device)
    if request.device is not None:
        new = new.to(request.device)
    if new.training != layer.training:
        new.train(layer.training)
    return new


def _warn_of_hooks(change: Change) -> None:
    kept = [
        name for name in _HOOKS if any(not computes_tensor(hook) for hook in getattr(change.old, name, {}).values())
    ]
    if kept:
        warnings.warn(
            f"{change.path or 'the layer'} has hooks ({', '.join(name.strip('_') for name in kept)}), which stay with "
            f"the {type(change.old).__name__} and are not called while a {type(change.new).__name__} is in its place",
            stacklevel=5,
        )


def _warn_of_subclass(path: str, layer: object, request: Request) -> None:
    kinds = [registry.reference for registry in request.registries if isinstance(layer, registry.reference)]
    if (
        not kinds
        or isinstance(layer, BaseImplementation)
        or RuntimeMode.mode_compatible(request.mode, RuntimeMode.DEFAULT)
    ):
        return
    if vars(type(layer)).get("_registry") is None:
        warnings.warn(
            f"{path or 'the layer'} stays as it is: {type(layer).__name__} is derived from {kinds[0].__name__}, and "
            "may compute something else",
            stacklevel=5,
        )
