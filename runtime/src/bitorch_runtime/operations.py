"""The operations of a program: one row each, which says all that is known of it beside its code.

The page of reference in docs/operations.md is made of the rows (`python -m bitorch_runtime.operations_page`). Whatever
asks which keys of an operation name arrays, or which tensors it gives, asks them. The compiled core has checks of its
own, and `bitorch_runtime.reference` its own arithmetic; the tests hold both to the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bitorch_runtime.operation_row import Op
from bitorch_runtime.operation_rows.codes import BETWEEN_FLOATS_AND_CODES
from bitorch_runtime.operation_rows.elementwise import ELEMENTWISE
from bitorch_runtime.operation_rows.embeddings import EMBEDDINGS
from bitorch_runtime.operation_rows.ends import ENDS
from bitorch_runtime.operation_rows.layers import LAYERS
from bitorch_runtime.operation_rows.matrices import MATRICES
from bitorch_runtime.operation_rows.moves import MOVES
from bitorch_runtime.operation_rows.norms import NORMS
from bitorch_runtime.operation_rows.pairs import PAIRS
from bitorch_runtime.operation_rows.pools import POOLS
from bitorch_runtime.operation_rows.resizes import RESIZES
from bitorch_runtime.reference.sizes import is_runs

#: Every operation, by name.
OPERATIONS: Mapping[str, Op] = MappingProxyType(
    {
        row.name: row
        for rows in (
            ENDS,
            LAYERS,
            BETWEEN_FLOATS_AND_CODES,
            ELEMENTWISE,
            PAIRS,
            MATRICES,
            POOLS,
            RESIZES,
            NORMS,
            MOVES,
            EMBEDDINGS,
        )
        for row in rows
    }
)


def array_names(operation: Mapping[str, Any]) -> dict[str, str]:
    """Return the arrays that an operation of a program names, by key; indices that it says by runs are none."""
    keys = OPERATIONS[operation["op"]].arrays
    return {key: operation[key] for key in keys if key in operation and not is_runs(operation[key])}


def read_names(operation: Mapping[str, Any]) -> list[str]:
    """Return the tensors that an operation reads; one that it reads twice stands there twice."""
    names: list[str] = []
    for key in OPERATIONS[operation["op"]].reads:
        if key in operation:
            names.extend(operation[key] if key == "inputs" else [operation[key]])
    return names


def given_names(operation: Mapping[str, Any]) -> dict[str, str]:
    """Return the tensors that an operation gives, by key."""
    return {key: operation[key] for key in OPERATIONS[operation["op"]].gives if key in operation}


def why_inexact(operation: Mapping[str, Any]) -> str:
    """Say why the last bits of an operation's result may be others than those of `reference`; "" where they may not."""
    row = OPERATIONS[operation["op"]]
    reasons = [row.inexact]
    for key in row.keys:
        reasons.extend(one.inexact for one in key.choices if operation.get(key.name) == one.value)
    return next((reason for reason in reasons if reason), "")
