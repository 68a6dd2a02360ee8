"""Calls of one module share their arrays: a layer that is called n times is stored once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.operations import array_names


def share_arrays(operations: list[dict[str, Any]], arrays: dict[str, NDArray[Any]], layers: Mapping[str, str]) -> None:
    """Let the calls of a module name one array where theirs are equal, bit for bit, and drop the others.

    Modules share nothing with one another: each array is of one, in reports and in budgets.

    Args:
        operations, arrays: of a program; changed in place.
        layers: of each array, the path of its module.
    """
    known: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
    for operation in operations:
        for key, name in sorted(array_names(operation).items()):
            array = np.ascontiguousarray(arrays[name])
            operation[key] = known.setdefault((layers[name], array.dtype.str, array.shape, array.tobytes()), name)
    for name in arrays.keys() - known.values():
        del arrays[name]
