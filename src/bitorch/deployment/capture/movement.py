"""Views, slices and shuffles: told by where each number of the result stood before.

A function that only moves numbers is applied to a tensor of positions, [batch, *shape] with 0, 1, 2, … in it. After any
chain of them the positions say what the chain means, however it was written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .problems import PARTIAL, Refusal

_WITHIN_IMAGES = (
    f"Keep the batch as the first dimension, as x.flatten(1), x.view(x.shape[0], -1) and x[:, a:b] do, {PARTIAL}"
)


@dataclass(frozen=True)
class Move:
    """One node of what a movement means: flattening, a choice of channels or of pixels, or an identity."""

    kind: str
    shape: tuple[int, ...]
    function: Callable[[Tensor], Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gather:
    """Any movement within images, as a function of their values.

    Attributes:
        first: positions within the image, int64 [*moved shape].
    """

    first: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.first]


def start(batch: int, shape: tuple[int, ...]) -> Tensor:
    """Return the positions of a tensor that was not moved, int64 [batch, *shape]."""
    return torch.arange(batch * math.prod(shape)).view(batch, *shape)


def of_one_image(positions: Tensor, batch: int, shape: tuple[int, ...]) -> Tensor:
    """Return the positions within an image, int64 [*moved shape].

    Args:
        positions: int64 [batch, *moved shape].
        shape: of an image before it was moved.

    Raises:
        Refusal: images are mixed, or the first dimension is no longer the batch.
    """
    size = math.prod(shape)
    if positions.dim() > 0 and positions.shape[0] == batch:
        first = positions[0]
        offsets = torch.arange(batch).view(batch, *[1] * first.dim()) * size
        if torch.equal(positions, first + offsets) and bool(((first >= 0) & (first < size)).all()):
            return first
    raise Refusal("the images of a batch are taken apart or mixed", _WITHIN_IMAGES)


def moves(first: Tensor, shape: tuple[int, ...]) -> list[Move]:
    """Return what a movement of an image means, as nodes one behind the other; none where nothing moved.

    Args:
        first: positions within the image, int64 [*moved shape].
        shape: of the image before it was moved.

    Raises:
        Refusal: it has no counterpart in a deployed network.
    """
    moved = tuple(first.shape)
    if shape == () != moved:
        return [_identity((1,)), *moves(first, (1,))]
    if moved == () != shape:
        return [*moves(first.reshape(1), shape), _identity(())]
    in_order = torch.equal(first.flatten(), torch.arange(math.prod(shape)))
    if len(moved) == 1 and len(shape) > 1:
        flatten = Move("flatten", (math.prod(shape),), _flatten)
        return [flatten] if in_order else [flatten, _select(first, flatten.shape)]
    if in_order and moved == shape:
        return []
    if in_order and _same_picture(shape, moved):
        return [_identity(moved)]
    if len(moved) > 1 and len(shape) == 1 and math.prod(moved[1:]) == 1:
        return [_select(first.flatten(), shape), _identity(moved)]
    if len(moved) > 1 and len(shape) == 1 and torch.equal(first, _first_pixel(first).expand_as(first)):
        pixel = _first_pixel(first)
        return [*moves(pixel, shape), *moves(_spread(pixel, moved), tuple(pixel.shape))]
    if moved[1:] == shape[1:] and math.prod(moved) > 0:
        channels = first.reshape(moved[0], -1)[:, 0] // math.prod(shape[1:])
        if torch.equal(first, start(1, shape)[0][channels]):
            return [_select(channels, shape)]
    pixels = _pixels(first, shape)
    if pixels is not None:
        return [pixels]
    raise Refusal(
        f"the numbers of an image are moved from {_shape(shape)} to {_shape(moved)}, which is neither a choice of "
        "channels nor a flattening",
        "Keep images as [batch, channels, height, width]; slices, chunks and shuffles of channels, every n-th pixel "
        f"from the first on, pixels repeated, and flattening can be deployed, {PARTIAL}",
    )


def spread_over_pixels(positions: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return [batch, C, 1, 1] of positions [batch, C, H, W] where each channel shows one position at all its pixels."""
    if positions.dim() != 4 or positions.numel() == 0 or math.prod(positions.shape[2:]) == 1:
        return None
    pixel = positions[:, :, :1, :1]
    return pixel if torch.equal(positions, pixel.expand_as(positions)) else None


def row_of_pixels(positions: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return [batch, C, H, W] of positions [batch, C, H·W], where the pixels of an image [C, H, W] stand in one row."""
    if len(shape) != 3 or tuple(positions.shape[1:]) != (shape[0], math.prod(shape[1:])):
        return None
    return positions.view(-1, *shape)


def _same_picture(shape: tuple[int, ...], moved: tuple[int, ...]) -> bool:
    """Say whether channels, rows and columns stay; [F] is [F, 1, 1], and [C, L] is [C, 1, L]."""
    return _as_picture(shape) == _as_picture(moved)


def _as_picture(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *[1] * (3 - len(shape)), *shape[1:])


def _flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


def _identity(moved: tuple[int, ...]) -> Move:
    return Move("identity", moved, lambda x: x.reshape(x.shape[0], *moved))


def _select(channels: Tensor, shape: tuple[int, ...]) -> Move:
    chosen = tuple(channels.tolist())
    if torch.equal(channels, torch.arange(len(chosen)) + chosen[0]):

        def function(x: Tensor) -> Tensor:
            return x.narrow(1, chosen[0], len(chosen)).contiguous()  # batch norm rounds otherwise without
    else:

        def function(x: Tensor) -> Tensor:
            return x.index_select(1, channels)

    return Move("select", (len(chosen), *shape[1:]), function, {"channels": chosen})


def _first_pixel(first: Tensor) -> Tensor:
    """[C, 1, …] of positions [C, …]."""
    return first.reshape(first.shape[0], -1)[:, :1].reshape(-1, *[1] * (first.dim() - 1))


def _spread(pixel: Tensor, moved: tuple[int, ...]) -> Tensor:
    """Positions [C, …] that say of a tensor [C, 1, …] that it is repeated at all pixels."""
    return torch.arange(len(pixel)).view(pixel.shape).expand(moved)


def _pixels(first: Tensor, shape: tuple[int, ...]) -> Move | None:
    """Return what takes every n-th row and column, or each several times; None if it is neither."""
    moved = tuple(first.shape)
    if len(moved) != len(shape) or len(shape) < 2 or moved[0] != shape[0] or math.prod(moved) == 0:
        return None
    # Along each axis, the coordinates of the pixels of the first channel: rows, then columns.
    strides = [math.prod(shape[axis + 1 :]) for axis in range(1, len(shape))]
    lines = [first[0].movedim(axis, 0).reshape(moved[axis + 1], -1)[:, 0] for axis in range(len(shape) - 1)]
    places = [line // step % size for line, step, size in zip(lines, strides, shape[1:], strict=True)]
    if not torch.equal(first, _at(start(1, shape), places)[0]):
        return None

    def function(x: Tensor) -> Tensor:
        return _at(x, places)

    if all(map(_is_repeated, places, shape[1:])):
        return Move("adaptive_avg_pool", moved, function, {"output_size": moved[1:]})
    steps = tuple(map(_step, places, shape[1:]))
    if None in steps:
        return None
    ones, none = (1,) * len(steps), (0,) * 2 * len(steps)
    window = {"kernel_size": ones, "stride": steps, "padding": none, "dilation": ones}
    return Move("max_pool", moved, function, window)


def _at(x: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Return the pixels of images [batch, C, …] at these coordinates of each axis."""
    for axis, place in enumerate(places, 2):
        x = x.index_select(axis, place)
    return x


def _is_repeated(place: Tensor, size: int) -> bool:
    """Say whether an axis shows each pixel equally often, one after the other."""
    count = len(place)
    return count % size == 0 and torch.equal(place, torch.arange(count) * size // count)


def _step(place: Tensor, size: int) -> int | None:
    """Return n where an axis shows every n-th pixel from the first on, as many as there are; else None."""
    step = size if len(place) == 1 else int(place[1])
    is_all = step > 0 and len(place) == (size - 1) // step + 1
    return step if is_all and torch.equal(place, torch.arange(len(place)) * step) else None


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if shape else "a number"
