"""The rule of writes into a part of a tensor: x[:, 0] = y, zeros[:, a:b] = x, x[:, :2] += 1.

The tensor is from then on a choice between what it was and what was written, by a mask of the places that were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .pairs import aligned

_BOX = "it writes to places that are not a choice along each axis", f"Build the tensor with torch.cat, {PARTIAL}"


def setitem(call: Reader, input: Tensor, index: Any, value: Any) -> str:
    """The rule of x[index] = value."""
    places, shape = _places(input, index)
    if len(places[0]) != input.shape[0]:
        raise Refusal("it writes to some images of a batch only", f"Write to all of them: x[:, …], {PARTIAL}")
    mask = torch.ones(1, *[1] * (input.dim() - 1))
    for axis, chosen in enumerate(places[1:], 1):
        line = torch.zeros(input.shape[axis]).index_fill(0, chosen, 1.0)
        mask = mask * line.view(-1, *[1] * (input.dim() - 1 - axis))
    channels = call.channel_axis(input) if call.varies(input) else 1
    before = call.read_written(input, channels, value)
    written = _spread(call, value, places, shape, input, channels)
    condition = call.constant(mask, channels, range(1, input.dim()))
    return call.add("where", written, before, condition, function=aligned(_chosen), channels_at=channels)


def _chosen(one: Tensor, other: Tensor, condition: Tensor) -> Tensor:
    return torch.where(condition != 0, one, other)


def _places(x: Tensor, index: Any) -> tuple[list[Tensor], tuple[int, ...]]:
    """The places along each axis that are written to, and the shape of what is.

    Raises:
        Refusal: they are no box, in the order of the axes.
    """
    numbers = torch.arange(x.numel()).view(x.shape)
    taken = numbers[index]
    coordinates = torch.unravel_index(taken.flatten(), tuple(x.shape)) if taken.numel() > 0 else ()
    places = [torch.tensor(list(dict.fromkeys(line.tolist()))) for line in coordinates]
    box = numbers
    for axis, chosen in enumerate(places):
        box = box.index_select(axis, chosen)
    if not places or not torch.equal(box.flatten(), taken.flatten()):
        raise Refusal(*_BOX)
    return places, tuple(taken.shape)


def _spread(call: Reader, value: Any, places: list[Tensor], shape: tuple[int, ...], x: Tensor, channels: int) -> str:
    """A node of what is written at its places, and of anything elsewhere; one number of a number."""
    if not isinstance(value, Tensor) or (value.numel() == 1 and not call.varies(value)):
        return call.constant(value if not isinstance(value, Tensor) else value.reshape(()), channels)

    def function(t: Tensor) -> Tensor:
        t = t.reshape(t.shape[max(0, t.dim() - len(shape)) :]).expand(shape).reshape([*map(len, places)])
        for axis, (chosen, size) in enumerate(zip(places[1:], x.shape[1:], strict=True), 1):
            source = torch.zeros(size, dtype=torch.int64)
            source[chosen] = torch.arange(len(chosen))
            t = t.index_select(axis, source)
        return t

    if not call.varies(value):
        return call.constant(function(value.detach()), channels)
    return call.read(call.view(value, function), channels)
