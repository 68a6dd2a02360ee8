"""A program of which every tensor leaves, so that each can be compared with the model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

import bitorch_runtime
from bitorch_runtime.operations import OPERATIONS, given_names

from .lower import Lowered, Operation

if TYPE_CHECKING:
    from bitorch_runtime._native import Port


def all_tensors(
    lowered: Lowered, operations: list[Operation], arrays: Mapping[str, NDArray[Any]]
) -> bitorch_runtime.Program:
    """The program with every tensor as an output: also D of low-bit layers and the floats behind their stages.

    Inputs leave only where they are outputs of the model.
    """
    shown: list[Operation] = []
    tensors: dict[str, None] = {}
    for operation, anchor, value in zip(operations, lowered.anchors, lowered.values, strict=True):
        if operation["op"] == "output":
            continue
        extended, row = dict(operation), OPERATIONS[operation["op"]]
        for key, node in (("int32", anchor), ("float32", value)):
            if row.may_give(key, operation):
                extended[key] = lowered.tensor(node)
        shown.append(extended)
        tensors |= dict.fromkeys(given_names(extended).values())
    inputs = {operation["output"] for operation in operations if operation["op"] == "input"}
    inputs -= {operation["input"] for operation in operations if operation["op"] == "output"}
    ends = [{"op": "output", "input": name, "order": "nchw"} for name in tensors if name not in inputs]
    return bitorch_runtime.Program([*shown, *ends], arrays)


def output_ports(program: bitorch_runtime.Program, operations: list[Operation]) -> list[Port]:
    """Return the ports that the outputs of a program have, by the one of which every tensor leaves."""
    ports = {port["name"]: port for port in program.outputs}
    return [
        _in_order(ports[operation["input"]], operation["order"])
        for operation in operations
        if operation["op"] == "output"
    ]


def _in_order(port: Port, order: str) -> Port:
    """A port whose array has channels first, "nchw", or last, "nhwc"; a vector has no order."""
    if port["order"] in ("nf", order):
        return port
    shape = port["shape"]
    moved = (*shape[1:], shape[0]) if order == "nhwc" else (shape[-1], *shape[:-1])
    return {**port, "shape": moved, "order": order}
