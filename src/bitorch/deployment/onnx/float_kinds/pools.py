"""Pools: one number of a window, of each channel."""

from __future__ import annotations

from typing import Any

from .call import Call
from .window_sums import covering, largest, sums, uniform


def _window(call: Call) -> dict[str, Any]:
    """The attributes of a pool's window, with what it reaches behind the image."""
    padding = call.setting("padding")
    beyond = call.node.settings.get("beyond", (0,) * len(call.setting("kernel_size")))
    after = [one + more for one, more in zip(padding[1::2], beyond, strict=True)]
    window = {"kernel_shape": list(call.setting("kernel_size")), "strides": list(call.setting("stride"))}
    return {**window, "pads": [*padding[::2], *after]}


def max_pool(call: Call) -> str:
    return call.last("MaxPool", call.x, **_window(call), dilations=list(call.setting("dilation")))


def avg_pool(call: Call) -> str:
    """The mean of a window, row by row from 0 on; in PyTorch's order where its bits are wanted."""
    settings = call.node.settings
    if not call.exact and "beyond" not in settings and "divisor" not in settings:
        return call.last(
            "AveragePool", call.x, **_window(call), count_include_pad=int(call.setting("count_include_pad"))
        )
    windows = uniform(call.shapes[0][1:], _window(call))
    total = sums(call, call.x, windows)
    if "divisor" in settings:
        return call.last("Div", total, call.number("divisor", settings["divisor"]))
    padding = settings["padding"] if settings["count_include_pad"] else (0,) * len(settings["padding"])
    return call.last("Div", total, call.constant("counts", windows.counts(padding)))


def global_avg_pool(call: Call) -> str:
    """The mean over all rows, to [C] or with ones behind."""
    if len(call.shapes[0]) == 1:
        return call.reshaped(call.x, call.node.shape, is_last=True)
    if len(call.node.shape) > 1:
        return call.last("GlobalAveragePool", call.x)
    return call.last("Flatten", call.op("GlobalAveragePool", call.x), axis=1)


def adaptive_avg_pool(call: Call) -> str:
    """Means of windows that cover the image; divided by the places along one axis after the other, as PyTorch does."""
    rows, count = call.shapes[0][1:], call.setting("output_size")
    if not call.exact and not any(size % n for size, n in zip(rows, count, strict=True)):
        kernel = [size // n for size, n in zip(rows, count, strict=True)]
        return call.last("AveragePool", call.x, kernel_shape=kernel, strides=kernel)
    windows = covering(rows, count)
    value = sums(call, call.x, windows)
    *others, lengths_of_last = windows.lengths()
    for lengths in others:
        value = call.op("Div", value, call.constant("count", lengths))
    return call.last("Div", value, call.constant("count", lengths_of_last))


def adaptive_max_pool(call: Call) -> str:
    return largest(call, call.x, covering(call.shapes[0][1:], call.setting("output_size")))
