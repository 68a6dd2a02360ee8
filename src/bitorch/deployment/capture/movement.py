"""Views, slices and shuffles: told by where each number of the result stood before.

A function that only moves numbers is applied to a tensor of positions, [batch, *shape] with 0, 1, 2, … in it. After any
chain of them the positions say what the chain means, however it was written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .problems import PARTIAL, Refusal
from .rearrange import Move, number_by_number, rearranged, select, take

_WITHIN_IMAGES = (
    f"Keep the batch as the first dimension, as x.flatten(1), x.view(x.shape[0], -1) and x[:, a:b] do, {PARTIAL}"
)


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
    if 0 in moved:
        raise _empty(moved)
    if shape == () != moved:
        return [_identity((1,)), *moves(first, (1,))]
    if moved == () != shape:
        return [*moves(first.reshape(1), shape), _identity(())]
    in_order = torch.equal(first.flatten(), torch.arange(math.prod(shape)))
    if len(moved) == 1 and len(shape) > 1:
        return _to_features(first, shape, in_order=in_order)
    if in_order and moved == shape:
        return []
    if in_order and _same_picture(shape, moved):
        return [_identity(moved)]
    if len(moved) > 1 and len(shape) == 1 and math.prod(moved[1:]) == 1:
        return [select(first.flatten(), shape), _identity(moved)]
    if len(moved) > 1 and len(shape) == 1 and torch.equal(first, _first_pixel(first).expand_as(first)):
        pixel = _first_pixel(first)
        return [*moves(pixel, shape), *moves(_spread(pixel, moved), tuple(pixel.shape))]
    if moved[1:] == shape[1:] and math.prod(moved) > 0:
        channels = first.reshape(moved[0], -1)[:, 0] // math.prod(shape[1:])
        if torch.equal(first, start(1, shape)[0][channels]):
            return [select(channels, shape)]
    pixels = _pixels(first, shape)
    if pixels is not None:
        return [pixels]
    found = _chosen(first, shape)
    found = rearranged(first, shape) if found is None else found
    if found is not None:
        return found
    raise _not_at_once(shape, moved)


def in_any_order(first: Tensor, shape: tuple[int, ...]) -> list[Move]:
    """Return what a movement means whatever it is, as `moves` does: a choice among all numbers, one by one."""
    if 0 in first.shape:
        raise _empty(tuple(first.shape))
    found = number_by_number(first, shape)
    if found is None:
        raise _not_at_once(shape, tuple(first.shape))
    return found


def _empty(moved: tuple[int, ...]) -> Refusal:
    return Refusal(f"an image of {_shape(moved)} is empty", f"Choose at least one number, {PARTIAL}")


def _not_at_once(shape: tuple[int, ...], moved: tuple[int, ...]) -> Refusal:
    return Refusal(
        f"the numbers of an image are moved from {_shape(shape)} to {_shape(moved)}, which is neither a choice along "
        "its axes nor a reshape or a permutation of them",
        "Slices, chunks and shuffles along any axis, permute, reshape and flatten, every n-th pixel, and pixels "
        f"repeated can be deployed, and of up to {2**24:,} numbers anything, {PARTIAL}",
    )


def _to_features(first: Tensor, shape: tuple[int, ...], *, in_order: bool) -> list[Move]:
    """What a movement from [C, *rows] to [F] means."""
    flatten = Move("flatten", (math.prod(shape),), _flatten, {"channels_last": False})
    if in_order:
        return [flatten]
    if torch.equal(first, start(1, shape)[0].movedim(0, -1).flatten()):
        return [Move("flatten", flatten.shape, _flatten_channels_last, {"channels_last": True})]
    row = first - torch.arange(shape[0]) * math.prod(shape[1:]) if len(first) == shape[0] else None
    if row is not None and bool((row == row[0]).all()):  # one place of the rows
        return [*moves(first.view(-1, *[1] * (len(shape) - 1)), shape), _identity(tuple(first.shape))]
    return [flatten, select(first, flatten.shape)]


def without_repetitions(positions: Tensor, axes: Sequence[int]) -> Tensor:
    """Return positions with one place along those of these axes where all places show the same."""
    for axis in axes:
        once = positions.narrow(axis, 0, 1)
        if positions.shape[axis] > 1 and torch.equal(positions, once.expand_as(positions)):
            positions = once
    return positions


def row_of_pixels(positions: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return [batch, C, H, W] of positions [batch, C, H·W], where the pixels of an image [C, H, W] stand in one row."""
    if len(shape) != 3 or tuple(positions.shape[1:]) != (shape[0], math.prod(shape[1:])):
        return None
    return positions.view(-1, *shape)


def _same_picture(shape: tuple[int, ...], moved: tuple[int, ...]) -> bool:
    """Say whether channels and rows stay, but for row axes of 1 in front: [F] is [F, 1, 1], and [C, L] is [C, 1, L]."""
    return shape[0] == moved[0] and without_leading_ones(shape[1:]) == without_leading_ones(moved[1:])


def without_leading_ones(rows: tuple[int, ...]) -> tuple[int, ...]:
    """Row axes without those of 1 that stand in front of all others, which say nothing."""
    return next((rows[axis:] for axis, size in enumerate(rows) if size > 1), ())


def _flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


def _flatten_channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(1)


def _identity(moved: tuple[int, ...]) -> Move:
    return Move("identity", moved, lambda x: x.reshape(x.shape[0], *moved))


def _first_pixel(first: Tensor) -> Tensor:
    """[C, 1, …] of positions [C, …]."""
    return first.reshape(first.shape[0], -1)[:, :1].reshape(-1, *[1] * (first.dim() - 1))


def _spread(pixel: Tensor, moved: tuple[int, ...]) -> Tensor:
    """Positions [C, …] that say of a tensor [C, 1, …] that it is repeated at all pixels."""
    return torch.arange(len(pixel)).view(pixel.shape).expand(moved)


def _pixels(first: Tensor, shape: tuple[int, ...]) -> Move | None:
    """Return what takes every n-th row and column, or the nearest of each; None if it is neither."""
    moved = tuple(first.shape)
    if len(moved) != len(shape) or len(shape) not in (2, 3, 4) or moved[0] != shape[0]:
        return None
    places = _places(first, shape)[1:]
    if not torch.equal(first, _at(start(1, shape), places)[0]):
        return None

    def function(x: Tensor) -> Tensor:
        return _at(x, places)

    if all(map(_is_nearest, places, shape[1:])) and all(map(int.__le__, shape[1:], moved[1:])):
        return Move("nearest", moved, function, {"output_size": moved[1:]})
    steps = tuple(map(_step, places, shape[1:]))
    if None in steps:
        return None
    ones, none = (1,) * len(steps), (0,) * 2 * len(steps)
    window = {"kernel_size": ones, "stride": steps, "padding": none, "dilation": ones}
    return Move("max_pool", moved, function, window)


def _chosen(first: Tensor, shape: tuple[int, ...]) -> list[Move] | None:
    """Return choices of coordinates along one axis after the other; None if it is anything else."""
    if first.dim() != len(shape):
        return None
    places = _places(first, shape)
    if not torch.equal(first, _at(start(1, shape)[0].unsqueeze(0).index_select(1, places[0]), places[1:])[0]):
        return None
    found: list[Move] = []
    for axis, place in enumerate(places):
        if not torch.equal(place, torch.arange(shape[axis])):
            found.append(select(place, shape) if axis == 0 else take(axis, place, shape))
            shape = found[-1].shape
    return found


def _places(first: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """Along each axis, the coordinates of the numbers that lie at the beginning of all others."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    lines = [first.movedim(axis, 0).reshape(size, -1)[:, 0] for axis, size in enumerate(first.shape)]
    return [line // step % size for line, step, size in zip(lines, strides, shape, strict=True)]


def _at(x: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Return the pixels of images [batch, C, …] at these coordinates of each axis."""
    for axis, place in enumerate(places, 2):
        x = x.index_select(axis, place)
    return x


def _is_nearest(place: Tensor, size: int) -> bool:
    """Say whether an axis shows for each place the nearest pixel, as an image of another size does."""
    count = len(place)
    return torch.equal(place, torch.arange(count) * size // count)


def _step(place: Tensor, size: int) -> int | None:
    """Return n where an axis shows every n-th pixel from the first on, as many as there are; else None."""
    step = size if len(place) == 1 else int(place[1])
    is_all = step > 0 and len(place) == (size - 1) // step + 1
    return step if is_all and torch.equal(place, torch.arange(len(place)) * step) else None


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if shape else "a number"
