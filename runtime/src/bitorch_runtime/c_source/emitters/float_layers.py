"""Layers on floats: products in the order of weights."""

from __future__ import annotations

import math

from bitorch_runtime.operations import given_names

from ..body import Body
from ..read_codes import VALUES
from ..tensors import CTensor
from .codes import table_of
from .stages import Leaving
from .windows import sliding, transposed, write_window


def float_layer(body: Body) -> None:
    """Write conv2d_float, linear_float or conv_transpose_float."""
    operation, x = dict(body.operation), body.tensor("input")
    y = body.tensor(next(iter(given_names(operation))))
    groups, source, weight = operation.get("groups", 1), body.read(x, "x"), body.floats("weight")
    if "kernel_size" not in operation:
        leaving = Leaving(body, y.channels, floats=True)
        with body.loop("p", y.places):
            body.call("sum_floats", weight, f"{source} + p * {x.channels}", x.channels, y.channels, leaving.y)
            leaving.finish()
        return
    window = (transposed if operation["op"] == "conv_transpose_float" else sliding)(operation, x, y)
    inputs, outputs = x.channels // groups, y.channels // groups
    count = math.prod(window.kernel) * inputs
    address, seen = write_window(body, window), body.working("float", count, "seen")
    leaving = Leaving(body, y.channels, floats=True)
    with body.loop("p", y.places):
        if groups == 1:
            _gather(body, x, f"{address}, p, {source}", "0", inputs, seen)
            body.call("sum_floats", weight, seen, count, outputs, leaving.y)
        else:
            with body.loop("g", groups):
                _gather(body, x, f"{address}, p, {source}", f"g * {inputs}", inputs, seen)
                rows = f"{weight} + g * {outputs * count}"
                body.call("sum_floats", rows, seen, count, outputs, f"{leaving.y} + g * {outputs}")
        leaving.finish()


def _gather(body: Body, x: CTensor, window: str, first: str, count: int, seen: str) -> None:
    """Write how a window's numbers are gathered, from floats, or from codes by what they stand for."""
    if x.bits:
        table = table_of(body, x, body.operation[VALUES])
        body.call("gather_table", window, x.field, x.channels, first, count, *table, seen)
    else:
        body.call("gather_floats", window, x.channels, first, count, seen)
