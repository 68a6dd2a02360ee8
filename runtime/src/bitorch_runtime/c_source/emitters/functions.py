"""Functions of single numbers."""

from __future__ import annotations

import numpy as np

from ..body import Body

#: Those with numbers, and the keys of these.
_WITH_NUMBERS = {
    "celu": ("alpha",),
    "softplus": ("beta", "threshold"),
    "threshold": ("threshold", "value"),
    "hardshrink": ("lambda",),
    "softshrink": ("lambda",),
}


def activation(body: Body) -> None:
    """Write activation."""
    operation, x, y = body.operation, body.tensor("input"), body.tensor("output")
    name = operation["function"]
    body.overwrite(y, x)
    source, out = body.read(x, "x"), body.give(y, "y")
    body.use(name)
    numbers = [float(operation[key]) for key in _WITH_NUMBERS.get(name, ())]
    if name == "celu":
        numbers.append(float(np.float32(1 / np.float64(np.float32(numbers[0])))))
    if "slope" in operation:
        body.call("apply_slopes", f"net_{name}", source, x.count, body.floats("slope"), x.channels, out)
    elif len(numbers) == 2:
        body.call("apply_two", f"net_{name}", source, x.count, *numbers, out)
    elif len(numbers) == 1:
        slope = body.array(np.array(numbers), "float", name)
        body.call("apply_slopes", f"net_{name}", source, x.count, slope, 1, out)
    else:
        body.call("apply", f"net_{name}", source, x.count, out)


def softmax(body: Body) -> None:
    """Write softmax, or its logarithm, which needs its input to the end."""
    x, y = body.tensor("input"), body.tensor("output")
    is_log = body.operation.get("log", False)
    if not is_log:
        body.overwrite(y, x)
    source, out = body.read(x, "x"), body.give(y, "y")
    body.call("log_softmax" if is_log else "softmax", source, x.places, x.channels, out)
