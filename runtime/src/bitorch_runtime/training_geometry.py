"""Shapes of a step of training: what the functions in C++ take, and the size of what forward keeps for backward."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.arguments import check_array, check_integer, check_pair

Pair = int | Sequence[int]


class Geometry(NamedTuple):
    """What the functions in C++ take, and the shapes around it."""

    is_linear: bool
    #: Batch; rows, columns, channels of x; output channels; rows, columns of kernel, stride and padding; groups.
    numbers: list[int]
    x: tuple[int, ...]
    y: tuple[int, ...]
    weight: tuple[int, ...]

    def saved_bytes(self, clips: bool) -> int:
        """Return the bytes of what is saved."""
        stride, padding, groups = self.numbers[7:9], self.numbers[9:11], self.numbers[11]
        return saved_bytes(self.x, self.weight, stride, padding, clips, groups)


def conv_geometry(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    groups: int = 1,
) -> Geometry:
    """Return the geometry of a convolution; one whose kernel covers x is linear, unless it has groups."""
    if len(x) != 4:
        raise ValueError(f"x: the shape is {x}, but must be [N, H, W, C]")
    steps, pads = check_pair("stride", stride, 1), check_pair("padding", padding, 0)
    if weight[0] % check_integer("groups", groups, 1, 2**40) != 0:
        raise ValueError(f"groups={groups}: must divide the {weight[0]} output channels of the weight")
    if weight[3] * groups != x[3]:
        of_groups = f"{weight[3]}" if groups == 1 else f"{groups} x {weight[3]}"
        raise ValueError(f"weight: the codes are for {of_groups} input channels, but x has {x[3]}")
    out = [(x[i] + 2 * pads[i - 1] - weight[i]) // steps[i - 1] + 1 for i in (1, 2)]
    if min(out) < 1:
        raise ValueError(f"weight: a kernel of {weight[1:3]} is larger than x of {x[1:3]} with a padding of {pads}")
    y = (x[0], *out, weight[0])
    if groups == 1 and covers(x, weight, pads):
        return Geometry(True, one_pixel(x[0], 1, prod(x[1:]), weight[0]), x, y, weight)
    return Geometry(False, [*x, weight[0], *weight[1:3], *steps, *pads, groups], x, y, weight)


def linear_geometry(x: tuple[int, ...], weight: tuple[int, ...]) -> Geometry:
    """Return the geometry of a linear layer; one with tokens is a convolution with a kernel of one pixel."""
    if len(x) < 2:
        raise ValueError(f"x: the shape is {x}, but must be [N, …, C]")
    if weight[1] != x[-1]:
        raise ValueError(f"weight: the codes are for {weight[1]} inputs, but x has {x[-1]}")
    tokens = prod(x[1:-1])
    return Geometry(tokens == 1, one_pixel(x[0], tokens, x[-1], weight[0]), x, (*x[:-1], weight[0]), weight)


def covers(x: Sequence[int], weight: Sequence[int], padding: Sequence[int]) -> bool:
    """Say whether a kernel is as large as x."""
    return tuple(padding) == (0, 0) and tuple(weight[1:3]) == tuple(x[1:3])


def one_pixel(batch: int, tokens: int, channels: int, outputs: int) -> list[int]:
    """Return the numbers of a convolution with a kernel of one pixel."""
    return [batch, 1, tokens, channels, outputs, 1, 1, 1, 1, 0, 0, 1]


def check_weight(weight: NDArray[np.integer], axes: int) -> tuple[int, ...]:
    """Return the shape of weight codes of that many axes."""
    shape: tuple[int, ...] = check_array("weight", weight, ["int8", "int16"]).shape
    if len(shape) != axes:
        raise ValueError(f"weight: the shape is {shape}, but must have {axes} axes")
    return shape


def saved_bytes(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Pair = 1,
    padding: Pair = 0,
    clips: bool = True,
    groups: int = 1,
) -> int:
    """Return the bytes of what `conv2d` or `linear` saves for backward: the length of `saved`.

    Plain arithmetic on shapes, which may be symbols of a tracer; nothing is checked.

    Args:
        x_shape: [N, H, W, C], or [N, …, C] of a linear layer.
        weight_shape: [O, KH, KW, C / groups], or [O, C] of a linear layer.
        stride, padding: of a convolution, an int or (vertical, horizontal).
        clips, groups: as `conv2d`.
    """
    if len(weight_shape) == 2:
        channels, tokens = x_shape[-1], prod(x_shape[1:-1])
        if tokens == 1:
            return _rows_bytes(x_shape[0], channels, clips)
        return _planes_bytes([x_shape[0], 1, tokens, channels], 1, 1, 0, clips)
    steps, pads = _pair(stride), _pair(padding)
    if groups == 1 and covers(x_shape, weight_shape, pads):
        return _rows_bytes(x_shape[0], prod(x_shape[1:]), clips)
    return _planes_bytes(x_shape, weight_shape[2], steps[1], pads[1], clips)


#: Bytes that kernels may read beyond.
_BEYOND = 64


def _rows_bytes(batch: int, channels: int, clips: bool) -> int:
    """Return what LinearSaved in C++ says: codes of a sample in whole dwords, and bits in whole bytes."""
    return batch * (_up(channels, 4) + (_up(channels, 8) // 8 if clips else 0)) + _BEYOND


def _planes_bytes(x: Sequence[int], kernel: int, stride: int, padding: int, clips: bool) -> int:
    """Return what SavedLayout in C++ says; kernel, stride and padding are those of columns."""
    batch, rows, columns, channels = x
    outputs = (columns + 2 * padding - kernel) // stride + 1
    width = _up(_up(outputs, 4) + (kernel - 1) // stride, 4)
    mask = _up(rows * columns * channels, 8) // 8 if clips else 0
    return batch * (rows * channels * min(stride, kernel) * width + mask) + _BEYOND


def _up(number: int, multiple: int) -> int:
    return (number + multiple - 1) // multiple * multiple


def _pair(value: Pair) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, Sequence) else (value, value)
