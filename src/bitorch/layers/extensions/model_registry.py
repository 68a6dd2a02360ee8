"""The registry of a layer of this package, with the models that hold such layers."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from .class_registry import ClassRegistry
from .layer_container import LayerContainer
from .reference import reference_of
from .replacing import Change, Request, is_closed, replace_layers

if TYPE_CHECKING:
    import torch


class ModelRegistry(ClassRegistry):
    """A `ClassRegistry` that finds its layers in the models that are alive, since nobody lists them."""

    @property
    def layer_instances(self) -> set[Any]:
        """The layers that are alive, and containers around some; they are looked for among all objects."""
        own = {
            one for one in live_modules() if type(one) is self.reference or type(reference_of(one)) is self.reference
        }
        return own | super().layer_instances

    def convert_layers_to(
        self,
        new_mode: int,
        only: Iterable[Any] | None = None,
        device: torch.device | str | None = None,
        verbose: bool = False,
    ) -> None:
        """Exchange layers for those of another mode, wherever a model that is alive holds them: all, or none.

        Args:
            new_mode: a mode, or a sum of them.
            only: the layers to change, among other things, such as `model.modules()`; None: all that are alive.
            device: where the new layers shall be.
            verbose: prints a line for each.

        Raises:
            RuntimeError: a layer that no implementation takes.
            ValueError: a layer of `only` that no module holds, so that it cannot be exchanged.
        """
        convert_live_layers([self], new_mode, only, device, verbose=verbose)


def live_modules() -> list[nn.Module]:
    """Return all modules that are alive."""
    return [one for one in gc.get_objects() if issubclass(type(one), nn.Module)]


def convert_live_layers(
    registries: Sequence[ClassRegistry],
    mode: int,
    only: Iterable[Any] | None,
    device: torch.device | str | None,
    *,
    verbose: bool,
) -> None:
    """Exchange the layers of some registries for those of another mode; see `ModelRegistry.convert_layers_to`."""
    wanted = None if only is None else list(only)
    modules = live_modules()
    closed = {id(one): one for one in modules if is_closed(one, registries)}
    inside = {id(inner) for one in closed.values() for inner in one.modules() if inner is not one}
    parents = [(type(one).__name__, one) for one in modules if id(one) not in closed and id(one) not in inside]
    ids = None if wanted is None else {id(one) for one in wanted}
    if wanted is not None:
        _check_held(wanted, inside, parents, registries)

    def is_wanted(layer: Any) -> bool:
        return not isinstance(layer, LayerContainer) and (ids is None or id(layer) in ids)

    in_containers = [plan for registry in registries for plan in registry.planned(mode, wanted, device)]
    changes = replace_layers(parents, Request(registries, mode, device), is_wanted)
    for container, implementation in in_containers:
        changes.append(Change("container", container.layer_implementation, implementation))
        container.replace_layer_implementation(implementation)
    if verbose:
        print("".join(f"{change}\n" for change in changes), end="")


def _check_held(
    wanted: Iterable[Any],
    inside: Collection[int],
    parents: Iterable[tuple[str, nn.Module]],
    registries: Collection[ClassRegistry],
) -> None:
    """Raise a ValueError for a layer that could not be exchanged, since no module holds it."""
    held = {id(child) for _, parent in parents for child in parent._modules.values()}
    for one in wanted:
        reference = reference_of(one)
        registry = vars(type(one if reference is None else reference)).get("_registry")
        if registry in registries and id(one) not in held and id(one) not in inside:
            raise ValueError(
                f"only has a {type(one).__name__} that no module holds, so nothing can be put in its place; "
                "layer = bitorch.convert(layer, mode) returns what that would be"
            )
