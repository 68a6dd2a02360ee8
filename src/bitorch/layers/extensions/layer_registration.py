"""The decorator with which a class becomes an implementation of a layer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ...runtime_mode import RuntimeMode, current_mode, mode_name
from .layer_container import LayerContainer
from .layer_implementation import BaseImplementation, CustomImplementationMixin, DefaultImplementationMixin
from .layer_recipe import LayerRecipe
from .layer_registry import LayerRegistry

if TYPE_CHECKING:
    import torch


class LayerImplementation:
    """Decorator: registers a class as an implementation of a layer.

    Of a class for DEFAULT alone it returns itself, which is called as the class is and gives a layer of the mode in
    `bitorch.mode`, in a `LayerContainer`; in mode RAW one of the class itself. Of a class for other modes it returns
    the class.

    Args:
        registry: of the layer.
        supported_modes: a mode, or a sum of them.

    Attributes:
        class_, class_name: what was decorated.

    Raises:
        AssertionError: no modes; a class for DEFAULT that is not derived from DefaultImplementationMixin, another one
            that is not derived from CustomImplementationMixin.
    """

    class_: type[BaseImplementation]
    class_name: str

    def __init__(self, registry: LayerRegistry, supported_modes: int) -> None:
        if not RuntimeMode.is_combined_mode(supported_modes):
            raise AssertionError(f"supported_modes must be a RuntimeMode or a sum of them, got {supported_modes!r}")
        self.registry = registry
        self.supported_modes = supported_modes
        self._is_decorated = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Decorate a class; afterwards, build a layer."""
        if not self._is_decorated:
            return self._decorated(*args, **kwargs)
        if current_mode() == RuntimeMode.RAW:
            return self.class_(*args, **kwargs)
        found = self.registry.get_layer()
        container = LayerContainer(self.class_ if found.is_default() else found.class_, *args, **kwargs)
        self.registry.add_recipe(container.recipe)
        return container

    def _decorated(self, class_: type[BaseImplementation]) -> Any:
        is_default = self.supported_modes == RuntimeMode.DEFAULT
        mixin = DefaultImplementationMixin if is_default else CustomImplementationMixin
        if not (isinstance(class_, type) and issubclass(class_, mixin)):
            raise AssertionError(
                f"{getattr(class_, '__name__', class_)} is registered for mode {mode_name(self.supported_modes)}, "
                f"so it must derive from {mixin.__name__}"
            )
        self.class_, self.class_name, self._is_decorated = class_, class_.__name__, True
        self.__doc__ = class_.__doc__
        self.registry.register(self)
        if not is_default:
            return class_
        # In its module this object goes by the name of the class, which is then found in here: by pickle, above all.
        class_.__qualname__ += ".class_"
        return self

    def is_default(self) -> bool:
        """Return whether the class is the layer as it is without an engine."""
        return self.class_.is_default_implementation()

    def supports_mode(self, mode: int) -> bool:
        """Return whether the class runs in a mode, or in one of a sum of modes."""
        return RuntimeMode.mode_compatible(mode, self.supported_modes)

    def can_create_clone_from(self, recipe: LayerRecipe) -> tuple[bool, str]:
        """Return whether the class can compute what a layer does, and if not, why."""
        return self.class_.can_clone(recipe)

    def get_replacement(self, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return a layer of the class in the place of the recipe's. Some classes take no device."""
        create = self.class_.create_clone_from
        try:
            inspect.signature(create).bind(recipe, device)
        except TypeError:
            return create(recipe)
        return create(recipe, device)
