"""The programs of one network at several sizes, as one program that leaves the sizes open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.operations import OPERATIONS, array_names

from .compile import Compiled
from .lower import Operation
from .size_formulas import fitted, fitted_runs

#: What may be said by runs, where it depends on the size.
_INDICES = ("take", "indices")


@dataclass(frozen=True)
class AtSteps:
    """A network compiled at one size.

    Attributes:
        steps: of each name, how many steps the size lies above the smallest.
        sizes: for messages: "96×128".
        compiled: see `Compiled`.
        operations: of the program, with the shapes that its arrays have in the model.
    """

    steps: tuple[int, ...]
    sizes: str
    compiled: Compiled
    operations: list[Operation]

    def place(self, index: int) -> str:
        """Where in the model an operation is from."""
        anchor = self.compiled.graph[self.compiled.lowered.anchors[index]]
        return anchor.place if anchor.place else anchor.name


class FixedSizeError(ValueError):
    """Something of the network depends on the size in a way that no formula says."""


def check_alike(one: AtSteps, other: AtSteps) -> None:
    """Raise a FixedSizeError that names the layer unless both are programs of the same operations and arrays."""
    for index, (first, second) in enumerate(zip(one.operations, other.operations, strict=False)):
        if first["op"] != second["op"] or first.keys() != second.keys():
            raise FixedSizeError(
                f"{one.place(index)}: computes something else for {one.sizes} ({first['op']}) than for {other.sizes} "
                f"({second['op']})"
            )
        for key in array_names(first):
            _array_of(one, other, index, key)
    if len(one.operations) != len(other.operations):
        raise FixedSizeError(
            f"the network has {len(one.operations)} operations for {one.sizes}, and {len(other.operations)} for "
            f"{other.sizes}"
        )


def one_program(programs: Sequence[AtSteps], names: Sequence[str]) -> tuple[list[Operation], dict[str, NDArray[Any]]]:
    """Return operations and arrays of a program that gives each of these programs at its size.

    Args:
        programs: two or more, for different sizes.
        names: of the sizes.

    Raises:
        FixedSizeError: there is none; it names the layer.
    """
    first = programs[0]
    for other in programs[1:]:
        check_alike(first, other)
    arrays: dict[str, NDArray[Any]] = {}
    operations = [
        {key: _value(programs, names, index, key, arrays) for key in operation}
        for index, operation in enumerate(first.operations)
    ]
    return operations, arrays


def _value(
    programs: Sequence[AtSteps], names: Sequence[str], index: int, key: str, arrays: dict[str, NDArray[Any]]
) -> Any:
    """The value of a key, which may be formulas."""
    first = programs[0]
    steps = [program.steps for program in programs]
    if key in OPERATIONS[first.operations[index]["op"]].arrays:
        found = [_array_of(first, program, index, key) for program in programs]
        if all(array is found[0] or np.array_equal(array, found[0], equal_nan=True) for array in found):
            name: str = first.operations[index][key]
            arrays[name] = found[0]
            return name
        runs = fitted_runs(found, steps, names)
        if runs is None:
            raise FixedSizeError(f"{first.place(index)}: takes places that follow no rule of the size")
        return runs
    values = [program.operations[index][key] for program in programs]
    value = _combined(values, steps, names)
    if value is None:
        shown = ", ".join(f"{one} for {program.sizes}" for one, program in zip(values, programs, strict=True))
        raise FixedSizeError(f'{first.place(index)}: "{key}" follows no rule of the size: {shown}')
    return value


def _combined(values: Sequence[Any], steps: Sequence[Sequence[int]], names: Sequence[str]) -> Any:
    """One value for all, with formulas in it; None where there is none."""
    first = values[0]
    if all(type(value) is int for value in values):
        return fitted(values, steps, names)
    if isinstance(first, list) and all(isinstance(v, list) and len(v) == len(first) for v in values):
        parts = [_combined(part, steps, names) for part in zip(*values, strict=True)]
        return None if any(part is None for part in parts) else parts
    return first if all(type(value) is type(first) and value == first for value in values) else None


def _array_of(one: AtSteps, other: AtSteps, index: int, key: str) -> NDArray[Any]:
    """The array of an operation in the other program, which must be the same unless it may be said by runs."""
    operation = one.operations[index]
    here = one.compiled.lowered.arrays[operation[key]]
    there = other.compiled.lowered.arrays[other.operations[index][key]]
    same = here is there or (here.shape == there.shape and here.tobytes() == there.tobytes())
    if same or (operation["op"], key) == _INDICES:
        return there
    what = (
        f"is of shape {list(here.shape)} for {one.sizes}, and {list(there.shape)} for {other.sizes}"
        if here.shape != there.shape
        else f"has other numbers for {one.sizes} than for {other.sizes}"
    )
    raise FixedSizeError(
        f'{one.place(index)}: its array "{key}" {what}; what is there for each place, or computed from the size, '
        "cannot follow it"
    )
