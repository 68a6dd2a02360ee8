"""Integers of a program that was compiled at several sizes, as formulas of the sizes.

Formulas are those of `bitorch_runtime.reference.sizes`: sums of products of an integer and names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Which names are multiplied in a term: () of a constant, (0, 1) of the first and the second.
Monomial = tuple[int, ...]
#: Runs of indices that a formula may have.
_MOST_RUNS = 16


def fitted(values: Sequence[int], steps: Sequence[Sequence[int]], names: Sequence[str]) -> Any:
    """Return an integer, or a formula that gives these values; None where there is none.

    The simplest is taken whose factors are integers, and which one value more than it has factors agrees with.

    Args:
        values: one of each size.
        steps: of each size, what the names stand for.
    """
    if all(value == values[0] for value in values):
        return values[0]
    for monomials in _bases(len(names)):
        if len(monomials) >= len(values):
            continue
        factors = _solved([[_product(m, at) for m in monomials] for at in steps], values)
        if factors is not None and all(factor.denominator == 1 for factor in factors):
            pairs = zip(factors, monomials, strict=True)
            return {"sum": [[int(factor), *(names[i] for i in m)] for factor, m in pairs if factor != 0]}
    return None


def fitted_runs(arrays: Sequence[NDArray[Any]], steps: Sequence[Sequence[int]], names: Sequence[str]) -> Any:
    """Return runs of indices, or None; otherwise as `fitted`.

    Args:
        arrays: the indices at each size, int32 [K].
    """
    runs = [_runs(array.tolist()) for array in arrays]
    if len({len(one) for one in runs}) != 1 or len(runs[0]) > _MOST_RUNS:
        return None
    found = [
        [fitted([one[place][part] for one in runs], steps, names) for part in range(3)] for place in range(len(runs[0]))
    ]
    return None if any(number is None for run in found for number in run) else {"runs": found}


def _runs(indices: Sequence[int]) -> list[tuple[int, int, int]]:
    """(start, step, count) of the longest runs, one behind the other; of a single index the step is 1."""
    runs: list[tuple[int, int, int]] = []
    at = 0
    while at < len(indices):
        step = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
        end = at + 1
        while end < len(indices) and indices[end] - indices[end - 1] == step:
            end += 1
        runs.append((indices[at], step, end - at))
        at = end
    return runs


def _bases(count: int) -> Iterator[list[Monomial]]:
    """Yield which terms a formula may have, simple ones first."""
    constant: list[Monomial] = [()]
    singles: list[Monomial] = [(i,) for i in range(count)]
    yield from ([*constant, single] for single in singles)
    products: list[Monomial] = [m for size in range(2, count + 1) for m in itertools.combinations(range(count), size)]
    if count > 1:
        yield [*constant, *singles]
        yield [*constant, *singles, *products]
    yield [*constant, *singles, *products, *((i, i) for i in range(count))]


def _product(monomial: Monomial, at: Sequence[int]) -> int:
    return int(np.prod([at[i] for i in monomial], dtype=object)) if monomial else 1


def _solved(rows: Sequence[Sequence[int]], values: Sequence[int]) -> list[Fraction] | None:
    """The only solution of these equations, more than there are unknowns; None where there is none, or several."""
    table = [[*map(Fraction, row), Fraction(value)] for row, value in zip(rows, values, strict=True)]
    unknowns = len(rows[0])
    for column in range(unknowns):
        pivot = next((row for row in range(column, len(table)) if table[row][column] != 0), None)
        if pivot is None:
            return None
        table[column], table[pivot] = table[pivot], table[column]
        lead = table[column] = [number / table[column][column] for number in table[column]]
        for row, line in enumerate(table):
            if row != column and line[column] != 0:
                table[row] = [a - line[column] * b for a, b in zip(line, lead, strict=True)]
    if any(row[-1] != 0 for row in table[unknowns:]):
        return None
    return [row[-1] for row in table[:unknowns]]
