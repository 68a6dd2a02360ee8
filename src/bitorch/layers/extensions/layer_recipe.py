"""What a layer was constructed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class LayerRecipe:
    """A layer, and the arguments with which one like it is constructed. Two recipes are equal if they are the same one.

    Attributes:
        layer: the live layer, with its weights.
        args, kwargs: of its class.
    """

    layer: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def get_positional_arg(self, pos: int) -> Any:
        """Return a positional argument; IndexError where there are not so many."""
        return self.args[pos]

    def get_arg(self, pos: int, key: str, default: Any) -> Any:
        """Return an argument that may have been given by position or by name, or a default where it was not given."""
        if pos < len(self.args):
            return self.args[pos]
        return self.kwargs.get(key, default)

    def required_arg(self, pos: int, key: str) -> Any:
        """Return an argument that may have been given by position or by name; IndexError where it was not given."""
        if pos < len(self.args):
            return self.args[pos]
        if key not in self.kwargs:
            raise IndexError(f"the recipe has no argument {key}, neither as number {pos} nor by its name")
        return self.kwargs[key]
