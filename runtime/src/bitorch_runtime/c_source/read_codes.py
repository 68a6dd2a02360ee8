"""Float layers that read codes where they would read what the codes stand for, four times as large or more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitorch_runtime.operations import read_names

#: Of a float layer, in the program that is written: the operation that would make floats of its input.
VALUES = "values of codes"
#: Those that gather their window first, and may do so by a table.
_LAYERS = ("conv2d_float", "conv_transpose_float")


def with_codes_read(operations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a program without those `dequantize` that only such layers read: pixels above all.

    The layers have the key `VALUES` instead, and the codes as their input.
    """
    readers: dict[str, list[str]] = {}
    for one in operations:
        for name in read_names(one):
            as_input = one.get("input") == name != one.get("residual")
            readers.setdefault(name, []).append(str(one["op"]) if as_input else "")
    moved = {
        one["output"]: one
        for one in operations
        if one["op"] == "dequantize" and all(op in _LAYERS for op in readers.get(one["output"], [""]))
    }
    found = []
    for one in operations:
        if one["op"] in _LAYERS and one["input"] in moved:
            values = moved[one["input"]]
            found.append({**one, "input": values["input"], VALUES: values})
        elif one.get("output") not in moved:
            found.append(dict(one))
    return found
