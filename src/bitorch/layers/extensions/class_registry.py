"""The registry of a layer of this package, which is an ordinary class and in no container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import nn

from ...runtime_mode import RuntimeMode, current_mode
from .layer_container import LayerContainer
from .layer_recipe import LayerRecipe
from .layer_registry import Implementation, LayerRegistry
from .reference import reference_of, stands_for

_Layer = TypeVar("_Layer", bound=type[nn.Module])

#: What registers implementations of this package for a mode when it is imported: it stands floors above this one.
_BUILT_IN: Mapping[RuntimeMode, str] = {RuntimeMode.CPU: "bitorch.deployment.partial.packed_implementations"}


class ReferenceImplementation:
    """A layer of this package as the implementation that all others stand for."""

    def __init__(self, class_: type[nn.Module]) -> None:
        self.class_ = class_
        self.class_name = class_.__name__

    def is_default(self) -> bool:
        """Return True."""
        return True

    def supports_mode(self, mode: int) -> bool:
        """Return whether DEFAULT is the mode, or among the modes."""
        return RuntimeMode.mode_compatible(mode, RuntimeMode.DEFAULT)

    def can_create_clone_from(self, recipe: LayerRecipe) -> tuple[bool, str]:
        """Return whether the recipe's layer is one of this package itself."""
        is_own = type(recipe.layer) is self.class_
        return is_own, "" if is_own else f"a {type(recipe.layer).__name__} is none"

    def get_replacement(self, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return the recipe's layer, with the weights that it has."""
        return recipe.layer


class ClassRegistry(LayerRegistry):
    """The implementations of a layer of this package: engines' come first, then packed ones, then itself.

    Attributes:
        reference: the class of the layer.
    """

    reference: type[nn.Module]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._built_in: list[Implementation] = []

    def of(self, class_: _Layer) -> _Layer:
        """Decorate the class of the layer."""
        self.reference = class_
        self.register(ReferenceImplementation(class_))
        for name, value in (("_registry", self), ("class_", class_)):
            setattr(class_, name, value)
        return class_

    def add_built_in(self, implementation: Implementation) -> None:
        """Add an implementation of this package, which is asked behind those of engines."""
        self._built_in.append(implementation)

    def built_in(self, mode: int) -> list[Implementation]:
        """Return the implementations of this package for a mode, beside the layer itself."""
        for one, module in _BUILT_IN.items():
            if mode & one:
                import_module(module)
        return [one for one in self._built_in if mode != RuntimeMode.RAW and one.supports_mode(mode)]

    def _engines(self, mode: int) -> list[Implementation]:
        if mode == RuntimeMode.RAW:
            return []
        return [one for one in self._implementations if not one.is_default() and one.supports_mode(mode)]

    def _candidates(self, mode: int) -> Iterator[Implementation]:
        yield from self._engines(mode)
        yield from self.built_in(mode)
        yield from (one for one in self._implementations if one.is_default() and one.supports_mode(mode))

    def __contains__(self, layer: object) -> bool:
        return super().__contains__(layer) or any(layer.__class__ is one.class_ for one in self._built_in)

    def get_recipe_for(self, layer: Any) -> LayerRecipe | None:
        """Return the recipe of a layer of this class, or of one that stands for such a one; None of anything else."""
        reference = layer if type(layer) is self.reference else reference_of(layer)
        if type(reference) is self.reference:
            found: LayerRecipe = reference.recipe  # type: ignore[assignment]  # a property of these classes
            return found
        return super().get_recipe_for(layer)

    def get_replacement(self, mode: int, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return a layer in the place of the recipe's, which it keeps for the way back; errors as `get_layer`."""
        return self.replacement_by(self.get_layer(mode, recipe), recipe, device)

    def replacement_by(
        self, implementation: Implementation, recipe: LayerRecipe, device: torch.device | str | None
    ) -> Any:
        """Return a layer of one implementation in the place of the recipe's, which it keeps for the way back.

        Raises:
            TypeError: the implementation gives no module.
        """
        with self._replacing():
            new = implementation.get_replacement(recipe, device)
        if new is recipe.layer or isinstance(recipe.layer, LayerContainer):
            return new
        if not isinstance(new, nn.Module):
            raise TypeError(
                f"{implementation.class_name}.create_clone_from must return a torch.nn.Module, which a model can hold, "
                f"got a {type(new).__name__}"
            )
        stands_for(new, recipe.layer)
        return new

    def get_layer_of_part(self, mode: int, recipe: LayerRecipe) -> Implementation:
        """Return what stands for a part of another layer in a mode: an implementation of this package, or the part."""
        built_in = (one for one in self.built_in(mode) if one.can_create_clone_from(recipe)[0])
        return next(built_in, ReferenceImplementation(type(recipe.layer)))

    def instead_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what is built in the place of a new layer in the mode of `bitorch.mode`; None if that is the layer.

        An instance of a subclass comes without being initialised: that is up to who called.

        Raises:
            RuntimeError: as `get_layer`.
        """
        mode = current_mode()
        if self.is_replacing or mode == RuntimeMode.RAW:
            return None
        if mode == RuntimeMode.DEFAULT and not self._engines(mode):
            return None
        numbers = torch.get_rng_state()
        with self._replacing():
            reference = self.reference(*args, **kwargs)
        recipe: LayerRecipe = reference.recipe  # type: ignore[assignment]  # a property of these classes
        implementation = self.get_layer(mode, recipe)
        class_ = implementation.class_
        if not issubclass(class_, self.reference):
            return self.replacement_by(implementation, recipe, _device_of(recipe))
        torch.set_rng_state(numbers)  # the layer itself draws them
        if class_ is self.reference:
            return None
        new = class_.__new__(class_)
        stands_for(new, reference)
        return new


def _device_of(recipe: LayerRecipe) -> Any:
    """Return the device that a layer was constructed with; None where it was not said."""
    return recipe.layer.get_args_as_kwargs(recipe)["device"]
