"""Names of a base class that give way to a parameter, buffer or submodule of the same name.

nn.Module looks into its dicts of parameters, buffers and submodules only where the class has no attribute of that name,
so that `self.scale = nn.Parameter(…)` in a subclass of a class with a method `scale` would be an error, and a submodule
of that name out of reach. What is marked with `gives_way` steps aside.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, NoReturn, TypeVar, cast

from torch import Tensor, nn

_Method = TypeVar("_Method", bound=Callable[..., Any])
_MISSING = object()
_KINDS = ("_parameters", "_buffers", "_modules")


class GivesWay:
    """What `gives_way` makes. Without __set__, so that an instance may have a plain value in its place, too."""

    def __init__(self, method: FunctionType) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: nn.Module | None, owner: type | None = None) -> object:
        if instance is not None:
            for kind in _KINDS:
                members = instance.__dict__.get(kind)
                if members and self.name in members:
                    return members[self.name]
        return self.method.__get__(instance, owner)


def gives_way(method: _Method) -> _Method:
    """Mark a method of a subclass of `GivingWay`."""
    return cast(_Method, GivesWay(cast(FunctionType, method)))


class GivingWay(nn.Module):
    """Mixin of classes with names that give way; the others are reserved, and say so."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as nn.Module does; AttributeError for a reserved name."""
        with self._way_made(name, "_parameters"):
            super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer, as nn.Module does; AttributeError for a reserved name."""
        with self._way_made(name, "_buffers"):
            super().register_buffer(name, tensor, persistent)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a submodule, as nn.Module does; AttributeError for a reserved name."""
        with self._way_made(name, "_modules"):
            super().add_module(name, module)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            self._check_free(name)  # or it would be out of reach
        try:
            super().__setattr__(name, value)
        except AttributeError:
            self._check_free(name)  # a property
            raise

    @contextmanager
    def _way_made(self, name: str, kind: str) -> Iterator[None]:
        """Take away what nn.Module would object to: that the class has an attribute of that name."""
        members = {of: self.__dict__.get(of, {}) for of in _KINDS}
        if not isinstance(name, str) or any(name in there for there in members.values()):
            yield
            return
        if not isinstance(self._check_free(name), GivesWay):
            yield
            return
        members[kind][name] = None
        is_fine = False
        try:
            yield
            is_fine = True
        finally:
            if not is_fine:
                del members[kind][name]

    def _check_free(self, name: str) -> object:
        """Return the class's attribute of that name, if it gives way, or there is none; else raise."""
        found = inspect.getattr_static(type(self), name, _MISSING)
        if found is not _MISSING and not isinstance(found, GivesWay):
            self._refuse(name)
        return found

    def _refuse(self, name: str) -> NoReturn:
        owner = next(cls for cls in reversed(type(self).__mro__) if name in cls.__dict__)
        raise AttributeError(
            f"{type(self).__name__}: the name {name!r} is reserved for what {owner.__name__} means by it; "
            f"choose another one, such as {f'own_{name}'!r}"
        )
