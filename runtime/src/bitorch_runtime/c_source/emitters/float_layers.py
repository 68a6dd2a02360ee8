"""Layers on floats: products in the order of weights."""

from __future__ import annotations

import math

import numpy as np

from bitorch_runtime.operations import given_names
from bitorch_runtime.reference import code_line, unpack_weights

from ..body import Body
from ..read_codes import VALUES
from ..tensors import CTensor, field_of, words_of
from .codes import table_of
from .stages import Leaving, as_words
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


def linear_weight_only(body: Body) -> None:
    """Write linear_weight_only: codes stay packed, and are looked up as they are multiplied."""
    operation, x, y = body.operation, body.tensor("input"), body.tensor("output")
    source, out = body.read(x, "x"), body.give(y, "y")
    bits, grid = operation["weight_bits"], operation.get("weight_grid", "odd")
    step, lowest = code_line(bits, grid)
    stored = (unpack_weights(body.named("weight"), bits, (x.channels,), grid) - lowest) // step
    field, groups = field_of(bits), body.named("scale").shape[1]
    planes = (stored[..., np.newaxis] >> np.arange(field) & 1 == 1).reshape(len(stored), -1)
    weight = body.array(as_words(planes), "uint32_t", "weight")
    levels = body.array(step * np.arange(2**bits) + lowest, "float", "levels")
    shape = words_of(x.channels, field), field, levels, body.floats("scale"), groups, x.channels // groups
    bias = body.floats("bias") if "bias" in operation else ""
    with body.loop("p", y.places):
        place = f"{out} + p * {y.channels}"
        body.call("sum_groups", weight, *shape, f"{source} + p * {x.channels}", y.channels, place)
        if bias:
            body.call("add_row", place, bias, y.channels)
