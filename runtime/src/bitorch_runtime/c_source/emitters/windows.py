"""Windows of up to three axes, as C has them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..body import Body
from ..tensors import CTensor

_AXES = 3


@dataclass(frozen=True)
class Window:
    """Which places an operation sees: tap k of output o reads (o·stride + k·step − before) / up, along each axis.

    Attributes:
        size, result: of the image and of what comes out.
        kernel, stride, step, before, up: of each axis.
    """

    size: tuple[int, ...]
    result: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    step: tuple[int, ...]
    before: tuple[int, ...]
    up: tuple[int, ...]

    def along(self, axis: int, o: int, k: int) -> int | None:
        """Return where a tap reads along an axis, None where that is beside the image."""
        at = o * self.stride[axis] + k * self.step[axis] - self.before[axis]
        inside = at % self.up[axis] == 0 and 0 <= at // self.up[axis] < self.size[axis]
        return at // self.up[axis] if inside else None

    @property
    def leaves_image(self) -> bool:
        """Whether some tap of some output is beside the image."""
        axes = range(len(self.size))
        places = itertools.chain.from_iterable(
            itertools.product([axis], range(self.result[axis]), range(self.kernel[axis])) for axis in axes
        )
        return any(self.along(*place) is None for place in places)


def _of_axes(x: CTensor, y: CTensor, kernel: Sequence[int], **settings: Sequence[int]) -> Window:
    axes = len(kernel)
    return Window(x.axes(axes), y.axes(axes), tuple(kernel), **{key: tuple(value) for key, value in settings.items()})


def sliding(operation: dict[str, Any], x: CTensor, y: CTensor) -> Window:
    """Return the window of a convolution or a pool; of a linear layer, one place of all rows."""
    if "kernel_size" not in operation:
        ones = (1,)
        return Window((x.places,), (y.places,), ones, ones, ones, (0,), ones)
    kernel = operation["kernel_size"]
    axes = len(kernel)
    return _of_axes(
        x,
        y,
        kernel,
        stride=operation["stride"],
        step=operation.get("dilation", [1] * axes),
        before=operation["padding"][:axes],
        up=[1] * axes,
    )


def transposed(operation: dict[str, Any], x: CTensor, y: CTensor) -> Window:
    """Return the window of a transposed convolution, as the outputs see it."""
    kernel = operation["kernel_size"]
    return _of_axes(
        x,
        y,
        kernel,
        stride=[1] * len(kernel),
        step=[-step for step in operation["dilation"]],
        before=[-padding for padding in operation["padding"]],
        up=operation["stride"],
    )


def whole(x: CTensor) -> Window:
    """Return the window that sees all places of the rows."""
    ones = (1,)
    return Window((x.places,), ones, (x.places,), ones, ones, (0,), ones)


def write_window(body: Body, window: Window) -> str:
    """Write a window as constants, and return its address."""

    def of(values: Sequence[int], default: int) -> str:
        return f"{{{', '.join(map(str, [default] * (_AXES - len(values)) + list(values)))}}}"

    body.use("window")
    body.line("static const net_window window = {")
    body.line(f"    {of(window.size, 1)}, {of(window.result, 1)}, {of(window.kernel, 1)},")
    body.line(f"    {of(window.stride, 1)}, {of(window.step, 1)}, {of(window.before, 0)}, {of(window.up, 1)},")
    body.line("};")
    return "&window"
