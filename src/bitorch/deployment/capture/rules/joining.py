"""Rules for functions that put tensors together, or borders around one: torch.cat, torch.stack, F.pad."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import movement
from ..problems import PARTIAL, Refusal
from ..reader import Reader
from ..rearrange import select, take
from .numbers import float32
from .windows import Pairs, flat, sizes


def cat(call: Reader, tensors: Sequence[Tensor], dim: int = 0, **other: Any) -> str:
    """The rule of torch.cat, along any axis but the batch; constants may be among the tensors."""
    dim = other.get("axis", dim) % call.result.dim()
    if dim == 0:
        raise Refusal("it concatenates along the batch", f"Keep the batch as the first dimension, {PARTIAL}")
    tensors = [t for t in tensors if t.numel() > 0 or t.dim() != 1]  # PyTorch skips empty vectors
    varying = [i for i, t in enumerate(tensors) if call.varies(t)]
    channels = call.channel_axis(tensors[varying[0]])
    axis = [channels, *(i for i in range(1, call.result.dim()) if i != channels)].index(dim)
    ends = tensors[: varying[0]], tensors[varying[-1] + 1 :]
    inner = tensors[varying[0] : varying[-1] + 1]
    call.channels_at = channels
    if any(len(end) > 0 for end in ends) and _may_be_padded(ends, axis, call.result.dim()):
        joined = _joined(call, inner, dim, axis, step="inner")
        return _pad_with_constants(call, joined, ends, dim, axis)
    return _joined(call, tensors, dim, axis)


def _joined(call: Reader, tensors: Sequence[Tensor], dim: int, axis: int, step: str = "") -> str:
    """Concatenate along an axis of nodes; dim: the same axis of the call's tensors."""
    channels = call.channels_at
    names = [call.read(t, channels) if call.varies(t) else call.constant(t, channels) for t in tensors]
    if len(names) == 1:
        return names[0]
    shape = list(call.shape(names[0]))
    shape[axis] = sum(t.shape[dim] for t in tensors)
    return call.add(
        "concat",
        *names,
        function=lambda *values: torch.cat(values, axis + 1),
        shape=tuple(shape),
        step=step,
        channels_at=channels,
        axis=axis,
    )


def stack(call: Reader, tensors: Sequence[Tensor], dim: int = 0, **other: Any) -> str:
    """The rule of torch.stack, along any axis but the batch: torch.cat of tensors with a new axis."""
    dim = other.get("axis", dim) % call.result.dim()
    if dim == 0:
        raise Refusal("it stacks along the batch", "Use torch.stack(numbers, 1)")
    columns = [call.view(t, lambda x: x.unsqueeze(dim)) if call.varies(t) else t.unsqueeze(dim) for t in tensors]
    return cat(call, columns, dim)


def hstack(call: Reader, tensors: Sequence[Tensor]) -> str:
    """The rule of torch.hstack and torch.column_stack."""
    return cat(call, tensors, 1)


def dstack(call: Reader, tensors: Sequence[Tensor]) -> str:
    """The rule of torch.dstack, of three dimensions or more."""
    if any(t.dim() < 3 for t in tensors):
        raise Refusal("it stacks tensors of fewer than three dimensions", f"Use torch.stack, {PARTIAL}")
    return cat(call, tensors, 2)


def unfold(call: Reader, input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> str:
    """The rule of F.unfold: windows of a padded image, [batch, C·kernel, windows]."""
    x = call.read(input)
    if len(call.shape(x)) != 3:
        raise Refusal(f"it takes windows of {['batch', *call.shape(x)]}", f"Give [batch, C, H, W], {PARTIAL}")
    borders = [(width, width) for width in sizes(padding, 2)]
    if any(map(any, borders)):
        widths = flat(borders[::-1])
        x = call.add(
            "pad",
            x,
            function=lambda v: torch.nn.functional.pad(v, widths),
            shape=(call.shape(x)[0], *(n + a + b for n, (a, b) in zip(call.shape(x)[1:], borders, strict=True))),
            step="padded",
            padding=flat(borders),
            channels=(0, 0),
            mode="constant",
            value=0.0,
        )
    places = movement.start(1, call.shape(x)).double()
    first = torch.nn.functional.unfold(places, kernel_size, dilation, 0, stride)[0].long()
    return call.add_moves(x, first)


def _may_be_padded(ends: tuple[Sequence[Tensor], Sequence[Tensor]], axis: int, rank: int) -> bool:
    """Whether constants at the ends are all one finite number, along an axis that can be padded."""
    values = torch.cat([t.detach().flatten() for end in ends for t in end])
    return bool((values == values[0]).all() & values[0].isfinite()) and (axis == 0 or rank <= 4)


def _pad_with_constants(
    call: Reader, x: str, ends: tuple[Sequence[Tensor], Sequence[Tensor]], dim: int, axis: int
) -> str:
    """Pad an axis of a node with constants; dim: the same axis of the call's tensors."""
    value = _fill(float(next(t for end in ends for t in end).detach().flatten()[0]))
    before, after = (sum(t.shape[dim] for t in end) for end in ends)
    pairs = [(0, 0)] * len(call.shape(x))
    pairs[axis] = before, after
    widths = flat(pairs[::-1])
    return call.add(
        "pad",
        x,
        function=lambda v: torch.nn.functional.pad(v, widths, value=value),
        shape=tuple(size + sum(pair) for size, pair in zip(call.shape(x), pairs, strict=True)),
        channels_at=call.channels_at,
        padding=flat(pairs[1:]),
        channels=pairs[0],
        mode="constant",
        value=value,
    )


def pad(call: Reader, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> str:
    """The rule of F.pad: along any axes but the batch; negative widths cut."""
    pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    pairs = [*reversed(pairs)]  # outermost dimension first
    pairs = [*[(0, 0)] * (input.dim() - len(pairs)), *pairs]
    if any(pairs[0]):
        raise Refusal("it pads the batch", "Pad channels, rows or columns only")
    channels = _channels_not_padded(call, input, pairs) if mode != "constant" else call.channel_axis(input)
    x = call.read(input, channels)
    ordered = [pairs[channels], *pairs[1:channels], *pairs[channels + 1 :]]
    function = None
    if any(width < 0 for pair in ordered for width in pair):
        x = _cut(call, x, ordered, channels)
        ordered = [(max(before, 0), max(after, 0)) for before, after in ordered]
        function = _padding(ordered, mode, value)
    if not any(width for pair in ordered for width in pair):
        return call.add("identity", x, channels_at=channels, function=function)
    fill = 0.0 if value is None else _fill(value)
    rows = flat(ordered[1:])
    return call.add(
        "pad", x, channels_at=channels, function=function, padding=rows, channels=ordered[0], mode=mode, value=fill
    )


def _channels_not_padded(call: Reader, input: Tensor, pairs: Pairs) -> int:
    """The axis to read as channels, whose places cannot be mirrored."""
    free: list[int] = [axis for axis in (call.channel_axis(input), *range(1, input.dim())) if not any(pairs[axis])]
    if not free:
        raise Refusal("all axes of an image are padded, channels too", f'Use mode="constant", {PARTIAL}')
    return free[0]


def _padding(pairs: Pairs, mode: str, value: float | None) -> Callable[[Tensor], Tensor]:
    """Pad [batch, C, *rows] by (before, after) of each axis but the batch."""
    last = next((axis for axis, pair in enumerate(pairs) if any(pair)), 0)  # other modes take no more than there are
    widths = flat([*pairs[last:]][::-1])
    return lambda x: torch.nn.functional.pad(x, widths, mode, value)


def _cut(call: Reader, x: str, pairs: Pairs, channels: int) -> str:
    """Cut as many places from both ends of each axis of a node as widths are negative."""
    for axis, (before, after) in enumerate(pairs):
        shape = call.shape(x)
        first, last = max(-before, 0), shape[axis] - max(-after, 0)
        if (first, last) == (0, shape[axis]):
            continue
        places = torch.arange(first, last)
        move = select(places, shape) if axis == 0 else take(axis, places, shape)
        x = call.add(
            move.kind,
            x,
            function=move.function,
            shape=move.shape,
            step=f"cut{axis}",
            channels_at=channels,
            **move.settings,
        )
    return x


def _fill(value: float) -> float:
    """Return what a border is filled with, as float32."""
    number = float32(value)
    if not math.isfinite(number):
        raise Refusal(f"it pads with {number}, which no file can hold", "Pad with a finite number")
    return number
