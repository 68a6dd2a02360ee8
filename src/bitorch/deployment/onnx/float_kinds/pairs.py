"""Numbers of several tensors at one place, tensors that are constant, and tensors one behind the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .call import Call, floats


def pair(op_type: str) -> Callable[[Call], str]:
    """Return the writer of an operator of tensors that are each repeated along axes where they have one place."""
    return lambda call: call.last(op_type, *aligned(call))


def where(call: Call) -> str:
    one, other, condition = aligned(call)
    return call.last("Where", call.op("Cast", condition, to=_BOOL), one, other)


def aligned(call: Call) -> list[str]:
    """The inputs with as many axes each: rows are counted from the last one, channels go with channels."""
    most = max(map(len, call.shapes))
    values = []
    for value, shape in zip(call.inputs, call.shapes, strict=True):
        if len(shape) == most:
            values.append(value)
        else:
            ones = (1,) * (most - max(1, len(shape)))
            values.append(call.reshaped(value, (*(shape[:1] if shape else (1,)), *ones, *shape[1:])))
    return values


def constant(call: Call) -> str:
    """A value of a batch of 1, which meets any other; `concat` repeats it for its batch."""
    return call.constant("value", floats(call.setting("value"))[None])


def concat(call: Call) -> str:
    """Tensors one behind the other. Constants get the batch of the first one that is none."""
    varying = next((value for value in call.inputs if not call.writer.is_constant(value)), "")
    is_repeated = varying != "" and call.writer.batch != 1
    values = [
        _repeated(call, value, len(shape), varying) if is_repeated and call.writer.is_constant(value) else value
        for value, shape in zip(call.inputs, call.shapes, strict=True)
    ]
    return call.last("Concat", *values, axis=call.setting("axis") + 1)


def _repeated(call: Call, value: str, axes: int, like: str) -> str:
    """A constant [1, …] for each image of another value."""
    batch = call.op("Shape", like, start=0, end=1)
    shape = call.op("Concat", batch, call.integers("ones", (1,) * axes), axis=0)
    return call.op("Expand", value, shape)


def embedding(call: Call) -> str:
    """Rows of a table: [batch, *rows, C] of indices [batch, *rows], and the channels brought to the front."""
    table = call.constant("table", np.ascontiguousarray(floats(call.setting("table"))))
    return rows_of_table(call, table)


def rows_of_table(call: Call, table: str) -> str:
    """The rows of a value [N, C] in the place of indices."""
    axes = len(call.shapes[0]) + 1
    if axes == 1:
        return call.last("Gather", table, call.x, axis=0)
    return call.transposed(call.op("Gather", table, call.x, axis=0), (0, axes, *range(1, axes)), is_last=True)


_BOOL = 9  # onnx.TensorProto
