"""Hooks on the parts of a model while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

Enter = Callable[[str, nn.Module, tuple[Any, ...], dict[str, Any]], None]
Leave = Callable[[str, nn.Module, object], None]


@contextmanager
def hooked(parts: Mapping[str, nn.Module], enter: Enter, leave: Leave) -> Iterator[None]:
    """Call `enter` with name, module and arguments before each call of a part, and `leave` with its result behind it.

    The hooks are the last before a part's forward, and the first behind it.
    """
    handles = []

    def before(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: enter(name, module, args, kwargs)

    def after(name: str) -> Callable[..., None]:
        return lambda module, args, result: leave(name, module, result)

    try:
        for name, part in parts.items():
            handles.append(part.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(part.register_forward_hook(after(name), prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
