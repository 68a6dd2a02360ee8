"""Arrays that a file has once: those of a layer that is called n times, and a weight that several layers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.operations import array_names

#: What the weight of a layer and the table of an embedding are called; packed codes of both are in one order.
_WEIGHTS = ("weight", "table")


def share_arrays(
    operations: list[dict[str, Any]],
    arrays: dict[str, NDArray[Any]],
    layers: Mapping[str, str],
    tied: Mapping[str, str],
) -> None:
    """Let the calls of a module name one array where theirs are equal, bit for bit, and drop the others.

    Modules share nothing with one another but a weight that is one in the model, too: each array is of one module, in
    reports and in budgets.

    Args:
        operations, arrays: of a program; changed in place.
        layers: of each array, the path of its module.
        tied: of modules that hold the weight of another one, the path of that.
    """
    known: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
    for operation in operations:
        for key, name in sorted(array_names(operation).items()):
            array = np.ascontiguousarray(arrays[name])
            layer = tied.get(layers[name], layers[name]) if key in _WEIGHTS else layers[name]
            operation[key] = known.setdefault((layer, array.dtype.str, array.shape, array.tobytes()), name)
    for name in arrays.keys() - known.values():
        del arrays[name]
