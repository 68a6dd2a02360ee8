"""Programs that leave sizes of their inputs open: formulas in the place of integers, computed for one size.

An integer of an operation may be ``{"sum": [[32, "height"], [64]]}``, which is 32·height + 64: a sum of products of an
integer and names. A name stands for how many steps a size lies above the smallest one, 0, 1, 2, …; which size that is,
the shapes of the inputs say. In the place of an array of indices may stand ``{"runs": [[start, step, count], …]}``,
whose numbers may be formulas. docs/format.md has the rules.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Operation = Mapping[str, Any]
Formulas = Sequence[Any]


def is_formula(value: object) -> bool:
    """Say whether an integer is said by a formula."""
    return isinstance(value, Mapping) and value.keys() == {"sum"}


def is_runs(value: object) -> bool:
    """Say whether indices are said by runs."""
    return isinstance(value, Mapping) and value.keys() == {"runs"}


def names_in(value: object) -> set[str]:
    """Return the names of sizes in the formulas of an operation, or of a list of them."""
    if is_formula(value):
        assert isinstance(value, Mapping)
        return {name for term in value["sum"] for name in term[1:]}
    if isinstance(value, Mapping):
        return set().union(*map(names_in, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(names_in, value))
    return set()


def evaluated(value: Any, steps: Mapping[str, int]) -> int:
    """Return what an integer is, or a formula.

    Args:
        steps: what each name stands for.
    """
    if not is_formula(value):
        return int(value)
    return sum(math.prod([term[0], *(steps[name] for name in term[1:])]) for term in value["sum"])


def indices_of(value: Mapping[str, Any], steps: Mapping[str, int]) -> Array:
    """Return the indices that runs say, int32."""
    indices: list[int] = []
    for run in value["runs"]:
        start, step, count = (evaluated(number, steps) for number in run)
        indices.extend(start + step * place for place in range(count))
    return np.array(indices, np.int32)


def affine_in(formula: Any) -> tuple[str, int, int] | None:
    """Return (name, factor, offset) of a formula that is factor·name + offset, both at least 1; None of others."""
    if not is_formula(formula):
        return None
    offset = sum(term[0] for term in formula["sum"] if len(term) == 1)
    terms = [term for term in formula["sum"] if len(term) > 1]
    if len(terms) != 1 or len(terms[0]) != 2 or terms[0][0] < 1 or offset < 1:
        return None
    return terms[0][1], terms[0][0], offset


def shape_outside(operation: Operation) -> list[Any]:
    """Return the dimensions, integers or formulas, of one image of the array of an input or output.

    Of an output without "array_shape", whose shape depends on its tensor, [].
    """
    if "array_shape" in operation:
        return list(operation["array_shape"])
    shape = list(operation.get("shape", ()))
    last = len(shape) > 1 and operation.get("order") == "nhwc"
    return [*shape[1:], shape[0]] if last else shape


def steps_of(operations: Sequence[Operation], shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """Return what the names of a program stand for when its inputs have these shapes.

    Args:
        shapes: of one image of each input.

    Raises:
        ValueError: no sizes of this program.
    """
    outside = [shape_outside(operation) for operation in operations if operation["op"] == "input"]
    steps: dict[str, int] = {}
    for dimensions, shape in zip(outside, shapes, strict=True):
        for formula, size in zip(dimensions, shape, strict=True):
            found = affine_in(formula)
            if found is not None and found[0] not in steps:
                name, factor, offset = found
                steps[name] = (size - offset) // factor
    for dimensions, shape in zip(outside, shapes, strict=True):
        wanted = [evaluated(formula, steps) for formula in dimensions]
        if wanted != list(shape) or min(steps.values(), default=0) < 0:
            raise ValueError(f"the program does not take {list(shape)}: the nearest that fits is {wanted}")
    return steps


def at_steps(
    operations: Sequence[Operation], arrays: Mapping[str, Array], steps: Mapping[str, int]
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return a program for one size: without formulas, and with the indices that its runs say.

    Args:
        operations, arrays: of the program.
        steps: what its names stand for, see `steps_of`.
    """
    sized = dict(arrays)
    fresh = (name for count in itertools.count() if (name := f"indices {count}") not in arrays)
    return [_at(operation, steps, sized, fresh) for operation in operations], sized


def at_shapes(
    operations: Sequence[Operation], arrays: Mapping[str, Array], shapes: Sequence[Sequence[int]]
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """`at_steps` for inputs of these shapes, of one image each; a program of one size is returned as it is."""
    if not names_in(list(operations)):
        return [dict(operation) for operation in operations], dict(arrays)
    return at_steps(operations, arrays, steps_of(operations, shapes))


def _at(value: Any, steps: Mapping[str, int], arrays: dict[str, Array], fresh: Iterator[str]) -> Any:
    if is_formula(value):
        return evaluated(value, steps)
    if is_runs(value):
        name = next(fresh)
        arrays[name] = indices_of(value, steps)
        return name
    if isinstance(value, Mapping):
        return {key: _at(item, steps, arrays, fresh) for key, item in value.items()}
    return [_at(item, steps, arrays, fresh) for item in value] if isinstance(value, (list, tuple)) else value
