"""What only puts numbers elsewhere, and borders around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .call import Call, Shape


def flatten(call: Call) -> str:
    """To [F], channel by channel or row by row."""
    axes = len(call.shapes[0]) + 1
    value = call.x
    if call.setting("channels_last") and axes > 2:
        value = call.transposed(value, (0, *range(2, axes), 1))
    return call.reshaped(value, call.node.shape, is_last=True)


def select(call: Call) -> str:
    return _chosen(call, call.setting("channels"), 1)


def take(call: Call) -> str:
    return _chosen(call, call.setting("indices"), call.setting("axis") + 1)


def _chosen(call: Call, places: Sequence[int], axis: int) -> str:
    """Places along an axis: a slice where they are evenly apart, which more tools read."""
    step = places[1] - places[0] if len(places) > 1 else 1
    if step > 0 and [*places] == [*range(places[0], places[-1] + 1, step)]:
        ends = (call.integers(name, [n]) for name, n in (("start", places[0]), ("end", places[-1] + 1)))
        return call.last("Slice", call.x, *ends, call.integers("axis", [axis]), call.integers("step", [step]))
    return call.last("Gather", call.x, call.integers("places", places), axis=axis)


def reshape(call: Call) -> str:
    """The same numbers, rows first and channels last: so the channels go behind the rows, and back."""
    before, after = call.shapes[0], call.node.shape
    value = call.transposed(call.x, (0, *range(2, len(before) + 1), 1)) if len(before) > 1 else call.x
    if len(after) < 2:
        return call.reshaped(value, after, is_last=True)
    value = call.reshaped(value, (*after[1:], after[0]))
    return call.transposed(value, (0, len(after), *range(1, len(after))), is_last=True)


def permute(call: Call) -> str:
    axes = (0, *(axis + 1 for axis in call.setting("axes")))
    return call.transposed(call.x, axes, is_last=True)


_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def pad(call: Call) -> str:
    """Borders around channels and rows."""
    is_constant = call.setting("mode") == "constant"
    fill = call.number("value", call.setting("value")) if is_constant else ""
    return bordered(call, call.x, call.shapes[0], call.setting("padding"), call.setting("channels"), fill)


def bordered(call: Call, value: str, shape: Shape, padding: Sequence[int], channels: Sequence[int], fill: str) -> str:
    """Put borders around a value, of the mode that the node says.

    Args:
        shape: of the value.
        padding: before and after each row axis, outermost first.
        channels: before and after them.
        fill: a value of the same dtype; "" where the mode is another one than constant.
    """
    before, after = (channels[0], *padding[::2]), (channels[1], *padding[1::2])
    if fill:
        return call.op("Pad", value, call.integers("widths", (0, *before, 0, *after)), fill, mode="constant")
    mode = call.node.settings["mode" if "mode" in call.node.settings else "padding_mode"]
    if mode == "circular":
        return _circular(call, value, shape, before, after)
    return call.op("Pad", value, call.integers("widths", (0, *before, 0, *after)), mode=_MODES[mode])


def _circular(call: Call, value: str, shape: Shape, before: Sequence[int], after: Sequence[int]) -> str:
    """The other end of each axis in front and behind, a choice of its places."""
    for axis, size in enumerate(shape):
        if before[axis] or after[axis]:
            places = np.arange(-before[axis], size + after[axis]) % size
            value = call.op("Gather", value, call.integers("places", places.tolist()), axis=axis + 1)
    return value


def identity(call: Call) -> str:
    """As many numbers in another shape, or the same."""
    return call.x if call.shapes[0] == call.node.shape else call.reshaped(call.x, call.node.shape, is_last=True)
