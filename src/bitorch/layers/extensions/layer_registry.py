"""The implementations of one layer, of which each mode takes one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from ...runtime_mode import RuntimeMode, current_mode, mode_name
from .layer_container import LayerContainer
from .layer_recipe import LayerRecipe

if TYPE_CHECKING:
    import torch


class Implementation(Protocol):
    """What a registry asks of an implementation."""

    @property
    def class_(self) -> Any:
        """The class of its layers."""

    @property
    def class_name(self) -> str:
        """The name of that, for messages."""

    def is_default(self) -> bool:
        """Return whether it is the layer as it is without an engine."""

    def supports_mode(self, mode: int) -> bool:
        """Return whether it runs in a mode, or in one of a sum of modes."""

    def can_create_clone_from(self, recipe: LayerRecipe) -> tuple[bool, str]:
        """Return whether it can compute what a layer does, and if not, why."""

    def get_replacement(self, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return a layer that computes what the recipe's does."""


class NoImplementationError(RuntimeError):
    """No implementation of a layer can be taken for a mode; the message tells what each one answered."""


class LayerRegistry:
    """The implementations of one layer, and the containers around layers that were built.

    Containers are found as long as somebody else holds them: the registry keeps none alive.

    Attributes:
        name: of the layer, for messages.
        is_replacing: whether a layer is being built in the place of another one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_replacing = False
        self._implementations: list[Implementation] = []
        self._containers: WeakSet[LayerContainer[Any]] = WeakSet()

    @property
    def layer_implementations(self) -> set[Implementation]:
        """The implementations that are registered."""
        return set(self._implementations)

    @property
    def layer_instances(self) -> set[Any]:
        """The containers that somebody holds."""
        return set(self._containers)

    def register(self, implementation: Implementation) -> None:
        """Add an implementation. Those that were registered before are asked before."""
        if implementation not in self._implementations:
            self._implementations.append(implementation)

    def unregister_custom_implementations(self) -> None:
        """Forget the implementations of engines."""
        self._implementations = [one for one in self._implementations if one.is_default()]

    def add_recipe(self, recipe: LayerRecipe) -> None:
        """Have the container of a recipe found, unless it is being built in the place of another layer."""
        if not self.is_replacing:
            self._containers.add(recipe.layer)

    def clear(self) -> None:
        """Forget the containers that were built so far."""
        self._containers.clear()

    def get_recipe_for(self, layer: Any) -> LayerRecipe | None:
        """Return the recipe of a layer: of a container, or of what is in one; None if it has none here."""
        for container in set(self._containers):
            if container is layer or container.layer_implementation is layer:
                found: LayerRecipe = container.recipe
                return found
        return None

    def __contains__(self, layer: object) -> bool:
        """Return whether the class of a layer is that of an implementation."""
        return any(layer.__class__ is one.class_ for one in self._implementations)

    def _candidates(self, mode: int) -> Iterator[Implementation]:
        """Yield those that support a mode, in the order in which they are asked; for RAW, the layer itself first."""
        supporting = [one for one in self._implementations if one.supports_mode(mode)]
        yield from sorted(supporting, key=lambda one: not one.is_default()) if mode == RuntimeMode.RAW else supporting

    def get_layer(self, mode: int | None = None, recipe: LayerRecipe | None = None) -> Implementation:
        """Return the first implementation that supports a mode and can clone a layer.

        Args:
            mode: a mode, or a sum of them; None is `bitorch.mode`.
            recipe: of the layer to clone; None clones none.

        Raises:
            RuntimeError: there is none; it tells what each one answered.
        """
        mode = current_mode() if mode is None else mode
        refusals = []
        for implementation in self._candidates(mode):
            if recipe is None:
                return implementation
            is_able, reason = implementation.can_create_clone_from(recipe)
            if is_able:
                return implementation
            refusals.append(f"{implementation.class_name}: {reason}")
        raise NoImplementationError(self._none(mode, refusals))

    def _none(self, mode: int, refusals: Iterable[str]) -> str:
        asked = "; ".join(refusals)
        why = f": {asked}" if asked else "; register an engine's, or take another mode, such as RuntimeMode.DEFAULT"
        which = "none of the implementation(s)" if asked else "no implementation(s)"
        return f"{self.name}: {which} of this layer for the mode {mode_name(mode)} can be taken{why}"

    def get_replacement(self, mode: int, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return a layer of the implementation that `get_layer` finds, for the recipe's place; errors likewise."""
        implementation = self.get_layer(mode, recipe)
        with self._replacing():
            return implementation.get_replacement(recipe, device)

    @contextmanager
    def _replacing(self) -> Iterator[None]:
        before, self.is_replacing = self.is_replacing, True
        try:
            yield
        finally:
            self.is_replacing = before

    def convert_layers_to(
        self,
        new_mode: int,
        only: Iterable[Any] | None = None,
        device: torch.device | str | None = None,
        verbose: bool = False,
    ) -> None:
        """Exchange the implementations in containers for those of another mode: in all of them, or in none.

        Args:
            new_mode: a mode, or a sum of them.
            only: the containers to change, or what is in them, among other things; None: all that are alive.
            device: where the new layers shall be.
            verbose: prints a line for each.

        Raises:
            RuntimeError: as `get_layer`.
        """
        for container, implementation in self.planned(new_mode, only, device):
            if verbose:
                print(f"{self.name}: {type(container.layer_implementation).__name__} → {type(implementation).__name__}")
            container.replace_layer_implementation(implementation)

    def planned(
        self, mode: int, only: Iterable[Any] | None, device: torch.device | str | None
    ) -> list[tuple[LayerContainer[Any], Any]]:
        """Return the containers that a conversion changes, each with its new implementation; errors likewise."""
        wanted = None if only is None else list(only)
        found = [one for one in set(self._containers) if wanted is None or _is_among(one, wanted)]
        return [(one, self.replacement_in(one, mode, device)) for one in found]

    def replacement_in(self, container: LayerContainer[Any], mode: int, device: torch.device | str | None) -> Any:
        """Return what is to stand in a container for a mode, on a device."""
        implementation = self.get_replacement(mode, container.recipe, device)
        if device is not None and hasattr(implementation, "to"):
            implementation = implementation.to(device)
        return implementation


def _is_among(container: LayerContainer[Any], layers: list[Any]) -> bool:
    return any(one is container or one is container.layer_implementation for one in layers)
