"""From floats to codes and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitorch_runtime.reference import dequantize as values_of

from ..body import Body
from ..tensors import CTensor
from .stages import write_codes


def quantize(body: Body) -> None:
    """Write quantize."""
    x, z = body.tensor("input"), body.tensor("output")
    source, codes = body.read(x, "x"), body.give(z, "z")
    if "zero_point" in body.operation:
        body.call("rounded_codes", source, body.operation["zero_point"], 2**z.bits - 1, x.count, codes, z.field)
        return
    with body.loop("p", x.places):
        write_codes(body, z, f"{source} + p * {x.channels}", codes, f"p * {x.channels}", x.channels)


def dequantize(body: Body) -> None:
    """Write dequantize: always by a table."""
    x = body.tensor("input")
    source, y = body.read(x, "x"), body.give(body.tensor("output"), "y")
    body.call("values_of_codes", source, x.field, x.count, *table_of(body, x, body.operation), y)


def table_of(body: Body, x: CTensor, operation: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the table of what codes stand for by a dequantize: its name, and how many numbers and rows it has.

    Args:
        x: the codes.
    """
    if "table" in operation:
        table = body.constant(operation["table"])
    else:
        table = values_of(np.arange(2**x.bits), x.bits, operation.get("sign", False), operation.get("scale"))
    return body.array(table, "float", "values"), 2**x.bits, table.shape[0] if table.ndim > 1 else 1


def lookup(body: Body) -> None:
    """Write lookup."""
    x, z, table = body.tensor("input"), body.tensor("output"), body.named("table")
    source, codes = body.read(x, "x"), body.give(z, "z")
    rows = table.shape[0] if table.ndim > 1 else 1
    values = body.array(table, "uint8_t", "table")
    body.call("other_codes", source, x.field, x.count, values, 2**x.bits, rows, codes, z.field)
