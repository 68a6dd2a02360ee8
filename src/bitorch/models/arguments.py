"""The arguments that a net was built with, kept, so that it can be built again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

SelfT = TypeVar("SelfT")
Arguments = ParamSpec("Arguments")

#: The attribute that they are in.
_KEPT = "_arguments"


def keeping_arguments(
    init: Callable[Concatenate[SelfT, Arguments], None],
) -> Callable[Concatenate[SelfT, Arguments], None]:
    """Return an `__init__` that keeps its arguments by name; one that a subclass's calls leaves the subclass's."""

    @functools.wraps(init)
    def keeping(self: SelfT, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if _KEPT not in self.__dict__:
            object.__setattr__(self, _KEPT, _by_name(init, self, *args, **kwargs))
        init(self, *args, **kwargs)

    return keeping


def _by_name(init: Callable[..., None], *args: Any, **kwargs: Any) -> dict[str, Any]:
    signature = inspect.signature(init)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return {}  # `init` says what is wrong
    _, *names = bound.arguments
    found: dict[str, Any] = {}
    for name in names:
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found.update(bound.arguments[name])
        else:
            found[name] = bound.arguments[name]
    return found
