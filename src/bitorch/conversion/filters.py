"""Which layers the user wants to change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import nn

from .suggestions import listed

FilterFn = Callable[[nn.Module, str], bool]


def chosen_by(
    filter_fn: FilterFn | Collection[str] | None, layers: Mapping[str, nn.Module], check_name: Callable[[str], None]
) -> set[str]:
    """Return the names of the layers that the filter lets through.

    Args:
        layers: all that can be changed, by name.
        check_name: raises if a name of the user's is not among them.
    """
    if filter_fn is None:
        return set(layers)
    if callable(filter_fn):
        chosen = {name for name, module in layers.items() if filter_fn(module, name)}
    elif isinstance(filter_fn, str):
        raise TypeError(f"filter_fn must be a function or a collection of names, got the string {filter_fn!r}")
    else:
        for name in filter_fn:
            check_name(name)
        chosen = set(filter_fn)
    if not chosen:
        raise ValueError(f"filter_fn matches none of the layers that can be converted: {listed(list(layers))}")
    return chosen
