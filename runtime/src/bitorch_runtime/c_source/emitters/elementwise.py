"""Steps of floats, number by number."""

from __future__ import annotations

from ..body import Body
from .stages import Leaving, float_stages


def affine(body: Body) -> None:
    """Write affine: a copy of each row goes through the steps."""
    operation, x = body.operation, body.tensor("input")
    if "float32" in operation:
        body.overwrite(body.tensor("float32"), x)
    source = body.read(x, "x")
    leaving = Leaving(body, x.channels, floats=True)
    y, channels = leaving.y, x.channels
    with body.loop("p", x.places):
        body.line(f"memmove({y}, {source} + p * {channels}, {4 * channels});")
        if "divide" in operation:
            body.call("divide_row", y, body.floats("divide"), channels)
        float_stages(body, y, channels)
        if "low" in operation:
            body.call("at_least", y, float(operation["low"]), channels)
        if "high" in operation:
            body.call("at_most", y, float(operation["high"]), channels)
        leaving.codes()
