"""Layers on floats: products in the order of weights."""

from __future__ import annotations

import numpy as np

from bitorch_runtime.operations import given_names

from ..body import Body
from .stages import Leaving
from .windows import sliding, transposed, write_window


def float_layer(body: Body) -> None:
    """Write conv2d_float, linear_float or conv_transpose_float."""
    operation, x = dict(body.operation), body.tensor("input")
    y = body.tensor(next(iter(given_names(operation))))
    window = (transposed if operation["op"] == "conv_transpose_float" else sliding)(operation, x, y)
    groups, outputs = operation.get("groups", 1), y.channels
    inputs, count = x.channels // groups, int(np.prod(window.kernel)) * x.channels // groups
    source, weight = body.read(x, "x"), body.floats("weight")
    is_linear = "kernel_size" not in operation
    address = "" if is_linear else write_window(body, window)
    seen = f"{source} + p * {count}" if is_linear else body.working("float", count, "seen")
    leaving = Leaving(body, outputs, floats=True)
    with body.loop("p", y.places):
        if groups == 1:
            if not is_linear:
                body.call("gather_floats", address, "p", source, x.channels, 0, inputs, seen)
            body.call("sum_floats", weight, seen, count, outputs, leaving.y)
        else:
            own = outputs // groups
            with body.loop("g", groups):
                body.call("gather_floats", address, "p", source, x.channels, f"g * {inputs}", inputs, seen)
                body.call("sum_floats", f"{weight} + g * {own * count}", seen, count, own, f"{leaving.y} + g * {own}")
        leaving.finish()
