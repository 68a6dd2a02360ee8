"""How two state dicts differ, in words."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_NAMES_SHOWN = 4


def differences(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """Return which keys and shapes of a state dict are not those of the model's, "" if all are."""
    shapes = [
        f"{name} {list(got[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in got and got[name].shape != wanted[name].shape
    ]
    kinds = {
        "it lacks": [name for name in wanted if name not in got],
        "it has besides": [name for name in got if name not in wanted],
        "other shapes in": shapes,
    }
    return "; ".join(f"{kind} {shortened(names)}" for kind, names in kinds.items() if names)


def shortened(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
