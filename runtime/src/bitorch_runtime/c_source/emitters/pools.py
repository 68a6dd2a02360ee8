"""Largest numbers and means of windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..body import Body
from ..tensors import CTensor
from .windows import Window, sliding, whole, write_window


def max_pool(body: Body) -> None:
    """Write max_pool."""
    x, y = body.tensor("input"), body.tensor("output")
    source, out = body.read(x, "x"), body.give(y, "y")
    window = write_window(body, sliding(dict(body.operation), x, y))
    with body.loop("p", y.places):
        _write_max(body, x, window, "p", source, out)


def _write_max(body: Body, x: CTensor, window: str, pixel: str, source: str, out: str) -> None:
    if x.bits:
        body.call("max_of_codes", window, pixel, source, x.field, x.channels, out)
    else:
        body.call("max_of_floats", window, pixel, source, x.channels, out)


def _write_total(body: Body, x: CTensor, window: str, pixel: str, source: str, row: str) -> None:
    if x.bits:
        body.call("total_of_codes", window, pixel, source, x.field, x.channels, row)
    else:
        body.call("total_of_floats", window, pixel, source, x.channels, row)


def avg_pool(body: Body) -> None:
    """Write avg_pool: what counts is known here, along each axis."""
    x, y, operation = body.tensor("input"), body.tensor("output"), body.operation
    window = sliding(dict(operation), x, y)
    counts = _counts(window, operation["padding"], inside=not operation["count_include_pad"])
    divisor = operation.get("divisor")
    if divisor is not None:
        counts = [np.array([divisor])]
    _mean(body, window, counts)


def global_avg_pool(body: Body) -> None:
    """Write global_avg_pool."""
    x = body.tensor("input")
    _mean(body, whole(x), [np.array([x.places])])


def _counts(
    window: Window, padding: Sequence[int], *, inside: bool
) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """How many pixels count along each axis, for each output: of the image, or of its padding too."""
    found, axes = [], len(window.size)
    for axis, (before, after) in enumerate(zip(padding[:axes], padding[axes:], strict=True)):
        low, high = (0, window.size[axis]) if inside else (-before, window.size[axis] + after)
        first = np.arange(window.result[axis]) * window.stride[axis] - before
        last = np.minimum(first + window.kernel[axis], high)
        found.append(last - np.maximum(first, low))
    return found


def _mean(body: Body, window: Window, counts: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> None:
    x, y = body.tensor("input"), body.tensor("output")
    source, out = body.read(x, "x"), body.give(y, "y")
    address = write_window(body, window)
    product = counts[0]
    for count in counts[1:]:
        product = np.multiply.outer(product, count)
    same = bool((product == product.flat[0]).all())
    divisor = f"{product.flat[0]}.0f" if same else f"{body.array(product, 'float', 'counts')}[p]"
    row = f"{out} + p * {y.channels}"
    with body.loop("p", y.places):
        _write_total(body, x, address, "p", source, row)
        if x.bits:
            scale = body.operation.get("scale", 1 / (2**x.bits - 1))
            body.call("multiply_all", row, float(scale), y.channels)
        body.call("divide_all", row, divisor, y.channels)


def adaptive_avg_pool(body: Body) -> None:
    """Write adaptive_avg_pool: divided along each axis, one after the other."""
    x, y, axes = body.tensor("input"), body.tensor("output"), len(body.operation["output_size"])
    source, out = body.read(x, "x"), body.give(y, "y")
    row = f"{out} + p * {y.channels}"
    _sizes(body, x, y)
    with body.loop("p", y.places):
        body.line("net_window window;")
        body.call("window_of_cover", "size", "result", "p", "&window")
        _write_total(body, x, "&window", "p", source, row)
        for axis in range(3 - axes, 3):
            body.call("divide_all", row, f"(float)window.kernel[{axis}]", y.channels)


def adaptive_max_pool(body: Body) -> None:
    """Write adaptive_max_pool."""
    x, y = body.tensor("input"), body.tensor("output")
    source, out = body.read(x, "x"), body.give(y, "y")
    _sizes(body, x, y)
    with body.loop("p", y.places):
        body.line("net_window window;")
        body.call("window_of_cover", "size", "result", "p", "&window")
        _write_max(body, x, "&window", "p", source, out)


def _sizes(body: Body, x: CTensor, y: CTensor) -> None:
    for name, tensor in (("size", x), ("result", y)):
        body.line(f"static const uint32_t {name}[3] = {{{', '.join(map(str, tensor.axes(3)))}}};")
