"""Normalisations and reductions: numbers that belong together, and their mean, spread, largest or smallest."""

from __future__ import annotations

import math

from .call import Call, Shape, floats


def normalize(call: Call) -> str:
    """(x − m)·f·weight + bias, m and f of the set that x belongs to."""
    shape, groups, rows = call.node.shape, call.setting("groups"), call.setting("rows")
    sets = (groups, shape[0] // groups, *shape[1:])
    x = call.reshaped(call.x, sets) if groups > 1 else call.x
    axes = (2 if groups > 1 else 1, *_last_axes(sets if groups > 1 else shape, rows))
    value = _normalized(call, x, axes)
    value = call.reshaped(value, shape) if groups > 1 else value
    for key, op_type in (("weight", "Mul"), ("bias", "Add")):
        if call.setting(key) is not None:
            value = call.op(op_type, value, _by_place(call, key, rows))
    return value


def _last_axes(shape: Shape, rows: int) -> tuple[int, ...]:
    """The last row axes, the batch counted."""
    return tuple(range(len(shape) + 1 - rows, len(shape) + 1))


def _normalized(call: Call, x: str, axes: tuple[int, ...]) -> str:
    by, eps = call.setting("by"), call.number("eps", call.setting("eps"))
    if by == "norm":
        norm = reduced(call, "ReduceL2", x, axes)
        return call.op("Div", x, call.op("Max", norm, eps))
    if by == "deviation":
        x = call.op("Sub", x, reduced(call, "ReduceMean", x, axes))
    square = reduced(call, "ReduceMean", call.op("Mul", x, x), axes)
    return call.op("Div", x, call.op("Sqrt", call.op("Add", square, eps)))


def _by_place(call: Call, key: str, rows: int) -> str:
    """Weights [C], or [places, C] of the last `rows` row axes, as they meet [batch, C, *rows]."""
    shape, values = call.node.shape, floats(call.setting(key))
    if values.ndim == 1:
        return call.constant(key, values.reshape(-1, *[1] * (len(shape) - 1)))
    last = shape[len(shape) - rows :]
    values = values.T.reshape(shape[0], *[1] * (len(shape) - 1 - rows), *last)
    return call.constant(key, values)


def reduced(call: Call, op_type: str, x: str, axes: tuple[int, ...], *, is_last: bool = False) -> str:
    """One number along axes, the batch counted, which become 1."""
    add = call.last if is_last else call.op
    if call.writer.opset < _AXES_AS_INPUT and op_type != "ReduceSum":
        return add(op_type, x, axes=[*axes], keepdims=1)
    return add(op_type, x, call.integers("axes", axes), keepdims=1)


_REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "norm": "ReduceL2", "amax": "ReduceMax", "amin": "ReduceMin"}


def reduce(call: Call) -> str:
    """Sums, means, norms, variances, largest and smallest numbers along axes."""
    axes = tuple(axis + 1 for axis in call.setting("axes"))
    reduction = call.setting("reduction")
    if reduction in _REDUCTIONS:
        return reduced(call, _REDUCTIONS[reduction], call.x, axes, is_last=True)
    difference = call.op("Sub", call.x, reduced(call, "ReduceMean", call.x, axes))
    squares = reduced(call, "ReduceSum", call.op("Mul", difference, difference), axes)
    count = math.prod(call.shapes[0][axis - 1] for axis in axes)
    degrees = call.number("degrees", max(0, count - call.setting("correction")))
    if reduction == "var":
        return call.last("Div", squares, degrees)
    return call.last("Sqrt", call.op("Div", squares, degrees))


def place(call: Call) -> str:
    """Where the first largest or smallest number stands, int32."""
    (axis,) = call.setting("axes")
    op_type = {"argmax": "ArgMax", "argmin": "ArgMin"}[call.setting("reduction")]
    return call.last("Cast", call.op(op_type, call.x, axis=axis + 1, keepdims=1), to=_INT32)


_AXES_AS_INPUT = 18  # from this opset on
_INT32 = 6  # onnx.TensorProto
