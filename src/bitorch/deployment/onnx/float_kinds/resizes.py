"""Images of another size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .call import Call


def nearest(call: Call) -> str:
    """Output o of n along an axis of s is pixel ⌊o·s/n⌋: a choice along each axis, or whole repetitions."""
    rows, output = call.shapes[0][1:], call.setting("output_size")
    if not any(n % size for size, n in zip(rows, output, strict=True)):
        factors = [n // size for size, n in zip(rows, output, strict=True)]
        scales = call.constant("scales", np.asarray([1, 1, *factors], np.float32))
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return call.last("Resize", call.x, "", scales, mode="nearest", **attributes)
    value = call.x
    axes = [axis for axis, (size, n) in enumerate(zip(rows, output, strict=True)) if size != n]
    for axis in axes:
        places = [o * rows[axis] // output[axis] for o in range(output[axis])]
        add = call.last if axis == axes[-1] else call.op
        value = add("Gather", value, call.integers("places", places), axis=axis + 2)
    return value


def resize(call: Call) -> str:
    """Pixels between pixels; their places follow from the sizes, or from the factors that were given."""
    rows, output, mode = call.shapes[0][1:], call.setting("output_size"), call.setting("mode")
    align = call.setting("align_corners")
    attributes = {
        "coordinate_transformation_mode": "align_corners" if align else "half_pixel",
        "mode": mode,
        "cubic_coeff_a": -0.75 if mode == "cubic" else None,
    }
    factors = None if align else call.setting("scale")
    if factors is not None:
        scales = np.asarray([1, 1, *factors.tolist()], np.float32)
        if _give(scales[2:], rows, output):
            return call.last("Resize", call.x, "", call.constant("scales", scales), **attributes)
    if call.writer.opset >= _AXES:
        sizes, axes = call.integers("sizes", output), [*range(2, 2 + len(rows))]
        return call.last("Resize", call.x, "", "", sizes, axes=axes, **attributes)
    front = call.op("Shape", call.x, start=0, end=2)
    sizes = call.op("Concat", front, call.integers("sizes", output), axis=0)
    return call.last("Resize", call.x, "", "", sizes, **attributes)


def _give(scales: NDArray[np.float32], rows: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Whether factors of float32 give an image of this size."""
    return all(math.floor(np.float32(size) * s) == n for s, size, n in zip(scales, rows, output, strict=True))


_AXES = 18  # opset of Resize with axes
