"""Tensors in what models take and return: tuples, lists, dicts and other mappings, named tuples and dataclasses.

Anything else, such as a number, a string, None or a cache object, is passed over and stays what it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor


def fields_of(value: object) -> dict[str, Any] | None:
    """Return names and values of a mapping, a named tuple or a dataclass; None of anything else."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def is_container(value: object) -> bool:
    """Return whether tensors are looked for inside."""
    return isinstance(value, tuple | list) or fields_of(value) is not None


def named_tensors(value: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor with its path, such as "hidden.0"; "" for a value that is itself a tensor."""
    if isinstance(value, Tensor):
        yield name, value
        return
    fields = fields_of(value)
    if fields is None and isinstance(value, tuple | list):
        fields = {str(index): item for index, item in enumerate(value)}
    for key, item in ({} if fields is None else fields).items():
        yield from named_tensors(item, f"{name}.{key}" if name else key)


def tensors_in(value: object) -> list[Tensor]:
    """Return every tensor, in order."""
    return [tensor for _, tensor in named_tensors(value)]


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the same with every tensor changed, in new containers of the same classes."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return _with_entries(value, {key: with_tensors(item, change) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(with_tensors(item, change) for item in value))
    if isinstance(value, tuple | list):
        items = [with_tensors(item, change) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        new = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(new, field.name, with_tensors(getattr(value, field.name), change))  # frozen ones, too
        return new
    return value


def _with_entries(value: Mapping[Any, Any], entries: dict[Any, Any]) -> Mapping[Any, Any]:
    if not isinstance(value, MutableMapping):
        return entries
    new = copy.copy(value)
    for key, item in entries.items():
        new[key] = item
    return new
