"""Rows of tables."""

from __future__ import annotations

import numpy as np

from bitorch_runtime.reference import code_line, unpack_weights

from ..body import Body
from ..tensors import field_of, words_of
from .stages import as_words


def embedding(body: Body) -> None:
    """Write embedding, of a table of floats or of codes."""
    x, y, table = body.tensor("input"), body.tensor("output"), body.named("table")
    source, out = body.read(x, "x"), body.give(y, "y")
    if table.dtype == np.float32:
        body.call("embed", source, x.count, body.floats("table"), y.channels, out)
        return
    operation = body.operation
    bits, grid = operation["weight_bits"], operation.get("weight_grid", "odd")
    step, lowest = code_line(bits, grid)
    stored = (unpack_weights(table, bits, (y.channels,), grid) - lowest) // step
    field = field_of(bits)
    planes = (stored[..., np.newaxis] >> np.arange(field) & 1 == 1).reshape(len(table), -1)
    levels = body.named("levels") if "levels" in operation else step * np.arange(2**bits) + lowest
    names = body.array(as_words(planes), "uint32_t", "table"), body.array(levels, "float", "levels")
    scales = body.named("scale")
    body.call(
        "embed_codes",
        *(source, x.count, names[0], words_of(y.channels, field), field, names[1]),
        *(body.floats("scale"), len(scales), y.channels, out),
    )
