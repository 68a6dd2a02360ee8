"""Which layers the user wants to convert."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn

from .kinds import check_named

FilterFn = Callable[[nn.Module, str], bool]


def chosen_by(
    convertible: dict[str, nn.Module],
    reasons: dict[str, str],
    filter_fn: FilterFn | Collection[str] | None,
) -> set[str]:
    """Return the names of the layers that the filter lets through."""
    if filter_fn is None:
        return set(convertible)
    if callable(filter_fn):
        chosen = {name for name, module in convertible.items() if filter_fn(module, name)}
    elif isinstance(filter_fn, str):
        raise TypeError(f"filter_fn must be a function or a collection of names, got the string {filter_fn!r}")
    else:
        for name in filter_fn:
            check_named(name, reasons, "filter_fn")
        chosen = set(filter_fn)
    if not chosen:
        raise ValueError(f"filter_fn matches none of the layers that can be converted: {', '.join(convertible)}")
    return chosen
