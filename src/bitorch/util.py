"""Classes of a module by name, as BITorch's registries are built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from .errors_of_both import FilterError


def _name_of(value: Any) -> Any:
    return value.name


def build_lookup_dictionary(
    current_module_name: str,
    class_strings: Iterable[str],
    filter_by_superclass: type | None = None,
    filter_fn: Callable[[Any], bool] | None = None,
    key_fn: Callable[[Any], Any] = _name_of,
) -> dict[Any, Any]:
    """Return what a module has under some names, and what passes a filter, by keys.

    Args:
        current_module_name: of the module, as `__name__` says it there.
        class_strings: names of attributes; those that the module lacks are passed over.
        filter_by_superclass: take what is a class below this one.
        filter_fn: take what this says; it goes before `filter_by_superclass`.
        key_fn: from what is taken to its key; its `name`, unless given.

    Raises:
        ValueError: neither filter is given. It is an AssertionError, too, as in BITorch.
    """
    if filter_fn is None and filter_by_superclass is None:
        raise FilterError("give filter_by_superclass, a class, or filter_fn, a function that says what to take")
    module = import_module(current_module_name)
    found = [getattr(module, name) for name in class_strings if hasattr(module, name)]

    def is_below(value: Any) -> bool:
        base = filter_by_superclass
        return base is not None and isinstance(value, type) and issubclass(value, base) and value is not base

    takes = is_below if filter_fn is None else filter_fn
    return {key_fn(value): value for value in found if takes(value)}
