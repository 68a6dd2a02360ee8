"""From floats to codes and back."""

from __future__ import annotations

import numpy as np

from bitorch_runtime.reference import dequantize as values_of

from ..body import Body
from .stages import write_codes


def quantize(body: Body) -> None:
    """Write quantize."""
    x, z = body.tensor("input"), body.tensor("output")
    source, codes = body.read(x, "x"), body.give(z, "z")
    with body.loop("p", x.places):
        write_codes(body, z, f"{source} + p * {x.channels}", codes, f"p * {x.channels}", x.channels)


def dequantize(body: Body) -> None:
    """Write dequantize: always by a table."""
    x, operation = body.tensor("input"), body.operation
    if "table" in operation:
        table = body.named("table")
    else:
        table = values_of(np.arange(2**x.bits), x.bits, operation.get("sign", False), operation.get("scale"))
    source, y = body.read(x, "x"), body.give(body.tensor("output"), "y")
    rows = table.shape[0] if table.ndim > 1 else 1
    values = body.array(table, "float", "values")
    body.call("values_of_codes", source, x.field, x.count, values, 2**x.bits, rows, y)


def lookup(body: Body) -> None:
    """Write lookup."""
    x, z, table = body.tensor("input"), body.tensor("output"), body.named("table")
    source, codes = body.read(x, "x"), body.give(z, "z")
    rows = table.shape[0] if table.ndim > 1 else 1
    values = body.array(table, "uint8_t", "table")
    body.call("other_codes", source, x.field, x.count, values, 2**x.bits, rows, codes, z.field)
