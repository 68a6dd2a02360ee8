"""Functions that change a model in place and return a table: what it says to somebody who takes it for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from torch import nn


class InPlaceTable:
    """What a function returns that has changed a model in place. Used like a model it says so."""

    #: Of the functions that return it.
    functions: ClassVar[tuple[str, ...]]

    # Not for type checkers, which then find `table.parameters()` by themselves.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):  # asked for by Python itself, as copy does
                raise AttributeError(name)
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: {in_place_hint(self)}")

        def __call__(self, *arguments: object, **named: object) -> NoReturn:
            raise TypeError(f"{type(self).__name__} cannot be called: {in_place_hint(self)}")

        def __getitem__(self, key: object) -> NoReturn:
            raise TypeError(f"{type(self).__name__} has no items: {in_place_hint(self)}")


def in_place_hint(table: InPlaceTable) -> str:
    """Return what to write in place of `model = bitorch.quantize_(model, …)`."""
    *others, last = table.functions
    names = f"{', '.join(others)} and {last} work" if others else f"{last} works"
    return (
        f"{names} in place, and this is the table of what was done. Write bitorch.{table.functions[0]}(model, …) "
        "without `model =` in front, and go on with the model"
    )


def check_module(model: object) -> None:
    """Raise a TypeError unless a model is one."""
    if isinstance(model, nn.Module):
        return
    hint = f". {in_place_hint(model)}" if isinstance(model, InPlaceTable) else ""
    raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}{hint}")
