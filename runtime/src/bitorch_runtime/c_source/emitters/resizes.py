"""Images of another size."""

from __future__ import annotations

import math

from bitorch_runtime.reference.resizing import blend

from ..body import Body
from .moves import nearest


def resize(body: Body) -> None:
    """Write resize: axis by axis, the last one first, with weights that are known here."""
    operation, x, y = body.operation, body.tensor("input"), body.tensor("output")
    if operation["mode"] == "nearest":
        nearest(body)
        return
    result = operation["output_size"]
    scales = operation.get("scale", [None] * len(result))
    sizes = [*x.axes(len(result)), x.channels]
    source = body.read(x, "x")
    for axis in reversed(range(len(result))):
        size, count = sizes[axis], result[axis]
        ways = (operation["mode"], operation.get("align_corners", False), scales[axis])
        places, weights = blend(size, count, *ways)
        sizes[axis] = count
        last = axis == 0
        out = body.give(y, "y") if last else body.working("float", math.prod(sizes), f"axis{axis}")
        arrays = body.array(places, "uint32_t", f"places{axis}"), body.array(weights, "float", f"weights{axis}")
        around = (math.prod(sizes[:axis]), size, math.prod(sizes[axis + 1 :]), count, places.shape[1])
        body.call("blend", source, *around, *arrays, out)
        source = out
