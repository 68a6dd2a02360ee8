"""What a network takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..body import Body
from ..places import input_buffer, output_buffer
from ..tensors import CTensor
from .axes import Axis, moved, stays, write_axes, write_move


def from_caller(x: CTensor, operation: Mapping[str, Any]) -> list[Axis]:
    """Return how numbers go from the caller's array into a tensor [rows …, channels]."""
    if x.places == 1 or operation.get("order") == "nhwc":
        return moved([x.count], [1])
    return moved([x.places, x.channels], [1, x.places])


def to_caller(x: CTensor, operation: Mapping[str, Any]) -> list[Axis]:
    """Return how numbers go from a tensor into the caller's array."""
    if x.places == 1 or operation.get("order") == "nhwc":
        return moved([x.count], [1])
    return moved([x.channels, x.places], [1, x.channels])


def input_(body: Body) -> None:
    """Write input: floats in the right order stay where they are, codes and indices are checked."""
    operation, y = body.operation, body.tensor("output")
    buffer, axes = input_buffer(y.name), from_caller(body.tensor("output"), body.operation)
    dtype = operation["dtype"]
    if dtype == "float32":
        if not (stays(axes) and body.places.unite(y.name, buffer)):
            x = body.other("const float *", buffer, "x")
            write_move(body, axes, x, body.give(y, "y"), y)
        return
    types = {"uint8": "uint8_t", "int32": "int32_t", "int64": "int64_t"}
    x = body.other(f"const {types[dtype]} *", buffer, "x")
    out, arguments = body.give(y, "y"), write_axes(body, axes)
    body.may_fail = True
    if dtype == "uint8":
        body.use("read_codes")
        body.line(f"return net_read_codes({arguments}, {x}, {out}, {y.field}, {2**y.bits - 1});")
    else:
        function = "read_indices" if dtype == "int32" else "read_long_indices"
        body.use(function)
        body.line(f"return net_{function}({arguments}, {x}, {out}, {operation['below']});")


def output(body: Body) -> None:
    """Write output: numbers in the right order are written there at once."""
    x = body.tensor("input")
    buffer, axes = output_buffer(x.name), to_caller(x, body.operation)
    if x.bits:
        source, y = body.read(x, "x"), body.other("uint8_t *", buffer, "y")
        body.call("write_codes", write_axes(body, axes), source, x.field, y)
    elif not (stays(axes) and body.places.unite(buffer, x.name)):
        write_move(body, axes, body.read(x, "x"), body.other(f"{x.c_type} *", buffer, "y"), x)


def constant(body: Body) -> None:
    """Write constant, a tensor that lies where constants do."""
    y = body.tensor("output")
    body.places.outside(y.name, body.floats("values"), read_only=True)
