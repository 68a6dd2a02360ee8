"""A layer whose implementation can be exchanged while others hold it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from .layer_recipe import LayerRecipe

T = TypeVar("T")


class LayerContainer(Generic[T]):
    """Stands for an implementation of a layer: what is read, written or called is that of the implementation.

    It says that its class is the implementation's, so that `isinstance` holds for both. What is, or gives, the
    implementation itself gives the container in its place. The implementation need not be a module.

    Args:
        impl_class: the class of the implementation.
        args, kwargs: what that is constructed with.
    """

    # No __dict__, so that the implementation's is found.
    __slots__ = ("__weakref__", "_layer_implementation", "_recipe")

    #: What is the container's own, and nobody else's.
    internal_variable_names: ClassVar[list[str]] = ["_layer_implementation", "_recipe"]
    #: Methods that return their object, in whose place the container is returned.
    patch: ClassVar[list[str]] = [
        "to", "cpu", "cuda", "type", "float", "double", "half", "bfloat16", "to_empty", "share_memory",
        "train", "eval", "requires_grad_", "apply",
    ]  # fmt: skip

    _layer_implementation: T
    _recipe: LayerRecipe

    def __init__(self, impl_class: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        self._layer_implementation = impl_class(*args, **kwargs)
        self._recipe = LayerRecipe(layer=self, args=args, kwargs=kwargs)

    @property
    def layer_implementation(self) -> T:
        """The implementation at present."""
        return self._layer_implementation

    @property
    def recipe(self) -> LayerRecipe:
        """What the first implementation was constructed with; its layer is the container."""
        return self._recipe

    def replace_layer_implementation(self, new_implementation: T) -> None:
        """Put another implementation in the place of the present one."""
        self._layer_implementation = new_implementation

    if not TYPE_CHECKING:  # for type checkers __class__ is an attribute

        @property
        def __class__(self) -> type:
            return type(self._layer_implementation)

    def __getattr__(self, name: str) -> Any:
        if name in self.internal_variable_names:  # not there yet: a copy in the making
            raise AttributeError(name)
        value = getattr(self._layer_implementation, name)
        if value is self._layer_implementation:
            return self
        return self._patched(value) if name in self.patch and callable(value) else value

    def _patched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self if result is self._layer_implementation else result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.internal_variable_names:
            object.__setattr__(self, name, value)
        else:
            setattr(self._layer_implementation, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._layer_implementation, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the implementation."""
        result = self._layer_implementation(*args, **kwargs)  # type: ignore[operator]  # some are no layers at all
        return self if result is self._layer_implementation else result

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *dir(self._layer_implementation)})

    def __repr__(self) -> str:
        return f"LayerContainer(\n  {str(self._layer_implementation).replace(chr(10), chr(10) + '  ')}\n)"

    def __deepcopy__(self, memo: dict[int, Any]) -> LayerContainer[T]:
        new = object.__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return object.__new__, (type(self),), self.__getstate__()

    def __getstate__(self) -> tuple[T, LayerRecipe]:
        return self._layer_implementation, self._recipe

    def __setstate__(self, state: tuple[T, LayerRecipe]) -> None:
        self._layer_implementation, self._recipe = state
