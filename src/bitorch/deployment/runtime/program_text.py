"""A planned program as a table of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...text_table import aligned

if TYPE_CHECKING:
    from bitorch_runtime._native import Operation, Tensor

_HEADER = ("operation", "gives", "rows×channels", "stored as", "kernel", "MACs", "bytes in memory")
#: Numbers, which end at the right.
_NUMERIC = (5, 6)


def operation_table(operations: Sequence[Operation]) -> str:
    """Return one line for each operation that `bitorch_runtime.Program.operations` gives, and one for their sums."""
    rows = [
        (
            row["op"],
            ", ".join(tensor["name"] for tensor in row["outputs"]),
            # Several outputs of an operation have one shape.
            "".join("×".join(map(str, tensor["shape"])) for tensor in row["outputs"][:1]),
            ", ".join(_stored_as(tensor) for tensor in row["outputs"]),
            row["kernel"],
            _number(row["macs"]),
            _number(row["weight_bytes"]),
        )
        for row in operations
    ]
    macs, weights = (sum(row["macs"] for row in operations), sum(row["weight_bytes"] for row in operations))
    rows.append((f"{len(operations)} operations", "", "", "", "", _number(macs), _number(weights)))
    lines = [line.rstrip() for line in aligned([_HEADER, *rows], right=_NUMERIC)]
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _stored_as(tensor: Tensor) -> str:
    if tensor["layout"] in ("float32", "int32"):
        return tensor["layout"]
    return f"{tensor['bits']}-bit {tensor['layout']}"


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
