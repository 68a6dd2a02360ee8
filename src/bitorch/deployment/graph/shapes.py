"""Which shapes nodes may have, by those of what they read: the rules that rows of `kinds` name.

Each rule takes the settings of a node, the shapes of its inputs, and its own, all of one image without the batch:
(C, *rows), so (C, H, W), (C, L), (F,), or () of one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = Mapping[str, Any]
Shape = tuple[int, ...]
Rule = Callable[[Settings, Sequence[Shape], Shape], bool]


def anything(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """Nothing is known."""
    return True


def same(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of every input."""
    return all(one == shape for one in inputs)


def as_many(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """Any with as many numbers."""
    return math.prod(inputs[0]) == math.prod(shape)


def flattened(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(F,), as many as there are."""
    return shape == (math.prod(inputs[0]),)


def _transposed(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """What a transposed convolution makes of the rows, in any number of channels."""
    keys = ("kernel_size", "stride", "dilation", "padding", "output_padding")
    rows = zip(inputs[0][1:], *(settings[key] for key in keys), strict=True)
    return shape[1:] == tuple((size - 1) * s + d * (k - 1) + 1 - 2 * p + more for size, k, s, d, p, more in rows)


def windowed(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of a window's places, in any number of channels."""
    if "output_padding" in settings:
        return _transposed(settings, inputs, shape)
    kernel, strides, padding = (settings[key] for key in ("kernel_size", "stride", "padding"))
    dilation = settings.get("dilation", (1,) * len(kernel))
    beyond = settings.get("beyond", (0,) * len(kernel))
    before, after = padding[::2], tuple(a + more for a, more in zip(padding[1::2], beyond, strict=True))
    rows = zip(inputs[0][1:], kernel, strides, before, after, dilation, strict=True)
    return shape[1:] == tuple((size + b + a - d * (k - 1) - 1) // step + 1 for size, k, step, b, a, d in rows)


def pooled(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """`windowed`, in the channels of the input."""
    return shape[:1] == inputs[0][:1] and windowed(settings, inputs, shape)


def weighted(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """`windowed` of a convolution, the rows of a linear layer's input, in as many channels as its weight has."""
    if shape[:1] != settings["weight"].shape[:1]:
        return False
    return windowed(settings, inputs, shape) if "kernel_size" in settings else shape[1:] == inputs[0][1:]


def one_pixel(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(C,), or with a 1 for each dimension of pixels."""
    return shape[:1] == inputs[0][:1] and len(shape) in (1, len(inputs[0])) and math.prod(shape[1:]) == 1


def resized(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(C, *output_size)."""
    return shape == (*inputs[0][:1], *settings["output_size"])


def gated(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the first input; the second one has it too, or one number per channel."""
    image, gate = inputs
    return shape == image and (gate == image or math.prod(gate) == image[0] == gate[0])


def joined(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As long as all together along the axis, and otherwise as each."""
    axis = settings["axis"]
    others = [(*one[:axis], *one[axis + 1 :]) for one in (shape, *inputs)]
    return shape[axis] == sum(one[axis] for one in inputs) and all(one == others[0] for one in others)


def chosen(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As many channels as are chosen."""
    return shape == (len(settings["channels"]), *inputs[0][1:])


def taken(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As many places of a row axis as are taken."""
    axis = settings["axis"]
    return axis > 0 and shape == (*inputs[0][:axis], len(settings["indices"]), *inputs[0][axis + 1 :])


def permuted(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the input, in another order."""
    axes = settings["axes"]
    return sorted(axes) == [*range(len(inputs[0]))] and shape == tuple(inputs[0][axis] for axis in axes)


def padded(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the input, and what is added in front and behind."""
    widths = (*settings["channels"], *settings["padding"])
    rows = zip(inputs[0], widths[::2], widths[1::2], strict=True)
    return shape == tuple(size + before + after for size, before, after in rows)
