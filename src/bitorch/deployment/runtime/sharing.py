"""Calls of one module share their arrays: a layer that is called n times is stored once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Keys of operations that name arrays, where their value is a text.
ARRAY_KEYS = frozenset(
    {"weight", "norm_multiply", "norm_offset", "multiply", "offset", "divide", "slope", "thresholds", "descending"}
    | {"table", "channels"}
)


def share_arrays(operations: list[dict[str, Any]], arrays: dict[str, NDArray[Any]], layers: Mapping[str, str]) -> None:
    """Let the calls of a module name one array where theirs are equal, bit for bit, and drop the others.

    Modules share nothing with one another: each array is of one, in reports and in budgets.

    Args:
        operations, arrays: of a program; changed in place.
        layers: of each array, the path of its module.
    """
    known: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
    for operation in operations:
        for key, name in array_names(operation).items():
            array = np.ascontiguousarray(arrays[name])
            operation[key] = known.setdefault((layers[name], array.dtype.str, array.shape, array.tobytes()), name)
    for name in arrays.keys() - known.values():
        del arrays[name]


def array_names(operation: Mapping[str, Any]) -> dict[str, str]:
    """Return the arrays that an operation names, by key."""
    return {key: operation[key] for key in sorted(ARRAY_KEYS & operation.keys()) if isinstance(operation[key], str)}
