"""The network of a packed model, compiled from its own model again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bitorch_runtime.operations import array_names

from ..capture.capture import capture
from ..passes.split_quantized import pixel_values
from .compile import Compiled, compile_graph
from .lower import Operation
from .owners import Owners
from .packed_model import PackedModel
from .subnormals import subnormals_kept


def compiled_as(model: nn.Module, packed: PackedModel, inputs: Sequence[Tensor]) -> Compiled:
    """Compile a model whose program should be that of a packed model.

    Args:
        inputs: as the packed model takes them.

    Raises:
        ValueError: the model cannot be captured, or the program is that of another network.
    """
    with subnormals_kept():
        captured = capture(model, *map(as_floats, inputs))
        captured.check()
        pixels = any(x.dtype == torch.uint8 for x in inputs)
        names, tied = captured.tensor_names, captured.tied
        compiled = compile_graph(captured.graph, pixels=pixels, names=names, tied=tied)
    _check_same_network(compiled.lowered.operations, packed.program_for(inputs)[0])
    return compiled


def owners_in(model: nn.Module, packed: PackedModel, inputs: Sequence[Tensor]) -> Owners:
    """Say which modules of its model a packed model is made of; for one that was read from a file it is compiled again.

    Args, Raises: as `compiled_as`.
    """
    return compiled_as(model, packed, inputs).lowered.owners if packed.owners is None else packed.owners


def _check_same_network(expected: list[Operation], found: list[Operation]) -> None:
    """Raise a ValueError unless both programs have the same operations; arrays and the shapes of ports may differ."""
    for wanted, operation in zip(expected, found, strict=False):
        if _of_network(wanted) != _of_network(operation):
            raise ValueError(f"the program is of another network: {operation} stands where the model has {wanted}")
    if len(expected) != len(found):
        raise ValueError(
            f"the program is of another network: it has {len(found)} operations, the model's would have {len(expected)}"
        )


def _of_network(operation: Operation) -> Operation:
    """An operation without what two files of one network may have differently: names of arrays, shapes outside."""
    named = array_names(operation)
    return {
        key: "array" if key in named else _along_two_axes(operation["op"], key, value)
        for key, value in operation.items()
        if key != "array_shape"
    }


def _along_two_axes(op: str, key: str, value: Any) -> Any:
    """What a signal's operation says, as of images of one row: so the writers before had it."""
    if key in ("kernel_size", "stride", "dilation", "output_size") and len(value) == 1:
        return [1, *value]
    if key == "padding" and len(value) == 2:
        return [0, value[0], 0, value[1]]
    if op == "input" and key == "shape" and len(value) == 2:
        return [value[0], 1, value[1]]
    return value


def as_floats(x: Tensor) -> Tensor:
    """What the model takes where the program takes x: pixels q as q/255."""
    return pixel_values(x) if x.dtype == torch.uint8 else x
