"""Functions of each number that are made of a few operators, and give PyTorch's bits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .call import Call, floats


def operator(op_type: str) -> Callable[[Call], str]:
    """Return the writer of a kind that is one operator, of all its inputs."""
    return lambda call: call.last(op_type, *call.inputs)


def with_constant(op_type: str, key: str) -> Callable[[Call], str]:
    """Return the writer of a kind that is one operator of its input and the numbers of a setting."""
    return lambda call: call.last(op_type, call.x, call.per_channel(key))


def batch_norm(call: Call) -> str:
    """x·multiply + offset, rounded once: the product and the sum have room in float64."""
    if not call.exact:
        return _batch_normalization(call)
    # They are float32 in the file, for its size.
    multiply, offset = (call.op("Cast", call.per_channel(key), to=_DOUBLE) for key in ("multiply", "offset"))
    product = call.op("Mul", call.op("Cast", call.x, to=_DOUBLE), multiply)
    return call.last("Cast", call.op("Add", product, offset), to=_FLOAT)


def _batch_normalization(call: Call) -> str:
    if call.rank < 2:
        product = call.op("Mul", call.x, call.per_channel("multiply"))
        return call.last("Add", product, call.per_channel("offset"))
    multiply, offset = (floats(call.setting(key)) for key in ("multiply", "offset"))
    mean = call.constant("mean", np.zeros_like(multiply))
    # The variance is less than 1 by epsilon, which an operator must not be without: some add their own.
    variance = call.constant("variance", np.full_like(multiply, 1 - _EPSILON))
    numbers = (call.constant("multiply", multiply), call.constant("offset", offset))
    return call.last("BatchNormalization", call.x, *numbers, mean, variance, epsilon=_EPSILON)


def clamp(call: Call) -> str:
    """min(max(x, low), high): of bounds that cross, the upper one wins."""
    low, high = call.setting("low"), call.setting("high")
    if low is not None and high is not None:
        low = min(low, high)
    # Left out, a bound is the largest finite number.
    bounds = (-math.inf if low is None else low, math.inf if high is None else high)
    return call.last("Clip", call.x, *(call.number(key, one) for key, one in zip(("low", "high"), bounds, strict=True)))


def sign(call: Call) -> str:
    """−1, 0 or 1; of NaN 0, where the operator Sign gives NaN."""
    zero = call.number("zero", 0)
    above, below = (call.op("Cast", call.op(one, call.x, zero), to=_FLOAT) for one in ("Greater", "Less"))
    return call.last("Sub", above, below)


def _sixths(call: Call) -> str:
    """min(max(x + 3, 0), 6)."""
    return call.op(
        "Clip", call.op("Add", call.x, call.number("three", 3)), call.number("zero", 0), call.number("six", 6)
    )


def hardsigmoid(call: Call) -> str:
    return call.last("Div", _sixths(call), call.number("six", 6))


def hardswish(call: Call) -> str:
    return call.last("Div", call.op("Mul", call.x, _sixths(call)), call.number("six", 6))


def rsqrt(call: Call) -> str:
    return call.last("Reciprocal", call.op("Sqrt", call.x))


def softsign(call: Call) -> str:
    return call.last("Div", call.x, call.op("Add", call.op("Abs", call.x), call.number("one", 1)))


def threshold(call: Call) -> str:
    """x where it is above the threshold, else the value; NaN is above none, and stays."""
    is_below = call.op("LessOrEqual", call.x, call.number("threshold", call.setting("threshold")))
    return call.last("Where", is_below, call.number("value", call.setting("value")), call.x)


def hardshrink(call: Call) -> str:
    is_small = call.op("LessOrEqual", call.op("Abs", call.x), call.number("lambda", call.setting("lambda")))
    return call.last("Where", is_small, call.number("zero", 0), call.x)


def softshrink(call: Call) -> str:
    """x less what lies between the bounds of it, so NaN stays NaN."""
    bounds = (call.number(name, sign * call.setting("lambda")) for name, sign in (("low", -1), ("high", 1)))
    return call.last("Sub", call.x, call.op("Clip", call.x, *bounds))


def leaky_relu(call: Call) -> str:
    slope = call.setting("slope")
    if bool((slope == slope.flatten()[0]).all()):
        return call.last("LeakyRelu", call.x, alpha=float(slope.flatten()[0]))
    return call.last("PRelu", call.x, call.per_channel("slope"))


def softmax(call: Call) -> str:
    return call.last("LogSoftmax" if call.setting("log") else "Softmax", call.x, axis=1)


_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto
_EPSILON = math.ldexp(1, -20)
