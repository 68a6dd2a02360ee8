"""Movements within an image as choices of coordinates, reshapes and permutations, told from where each number stood.

Numbers are counted in the order of the runtime's memory: rows first, channels last. There [C, *rows] is one list, of
which a reshape changes nothing, and a permutation says which axes go where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .by_parts import grid_of

#: Axes of one image, channels included, that a tensor of a program has at most.
MOST_AXES = 8
#: Features that a vector of a program has at most.
_MOST_FEATURES = 2**24


@dataclass(frozen=True)
class Move:
    """One node of what a movement means: a choice, a reshape, a permutation, a flattening, or an identity."""

    kind: str
    shape: tuple[int, ...]
    function: Callable[[Tensor], Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


def select(channels: Tensor, shape: tuple[int, ...]) -> Move:
    """Choose channels of an image [C, *rows]."""
    chosen = tuple(channels.tolist())
    if torch.equal(channels, torch.arange(len(chosen)) + chosen[0]):

        def function(x: Tensor) -> Tensor:
            return x.narrow(1, chosen[0], len(chosen)).contiguous()  # batch norm rounds otherwise without
    else:

        def function(x: Tensor) -> Tensor:
            return x.index_select(1, channels)

    return Move("select", (len(chosen), *shape[1:]), function, {"channels": chosen})


def take(axis: int, indices: Tensor, shape: tuple[int, ...]) -> Move:
    """Choose coordinates of a row axis, 1 being the first, of an image [C, *rows]."""
    moved = (*shape[:axis], len(indices), *shape[axis + 1 :])
    return Move(
        "take",
        moved,
        lambda x: x.index_select(axis + 1, indices),
        {"axis": axis, "indices": tuple(indices.tolist())},
    )


def channel_axis(first: Tensor, shape: tuple[int, ...]) -> int:
    """Return the axis of a moved tensor [batch, *moved shape] along which the channels of its image [C, *rows] lie.

    Args:
        first: positions within the image, int64 [*moved shape].
        shape: of the image before it was moved.

    Returns:
        1 where no axis has the channels to itself.
    """
    if first.dim() < 2 or first.numel() == 0:
        return 1
    channels = first // math.prod(shape[1:])
    alone = [axis for axis in range(first.dim()) if _depends_only_on(channels, axis)]
    count = len(channels.unique())
    return next((axis + 1 for axis in alone if first.shape[axis] == count), (*alone, 0)[0] + 1)


def _depends_only_on(values: Tensor, axis: int) -> bool:
    line = values.movedim(axis, 0).reshape(values.shape[axis], -1)
    return bool((line == line[:, :1]).all())


def rearranged(first: Tensor, shape: tuple[int, ...]) -> list[Move] | None:
    """Return what a movement means as takes, reshapes and permutations; None if it is none of them.

    Args:
        first: positions within the image, int64 [*moved shape], two dimensions or more.
        shape: of the image before it was moved, [C, *rows].
    """
    if first.numel() == 0 or len(shape) > MOST_AXES:
        return None
    coordinates = torch.stack(torch.unravel_index(first.flatten(), shape))
    used = [line.unique() for line in coordinates]
    if math.prod(map(len, used)) != first.numel():
        return _by_grid(first, shape)
    found = _by_choice(first, coordinates, used, shape)
    if found is None:  # perhaps an axis is turned round, or shuffled
        used = [torch.tensor(list(dict.fromkeys(line.tolist()))) for line in coordinates]
        found = _by_choice(first, coordinates, used, shape)
    return _by_grid(first, shape) if found is None else found


def _by_grid(first: Tensor, shape: tuple[int, ...]) -> list[Move] | None:
    """`rearranged`, of what takes places of each axis in a grid, some of them several times."""
    grid = grid_of(first, shape)
    if grid is None:
        return None
    moves = _choices(grid.places, shape)
    order = _permuted(_in_memory(grid.positions, grid.shape), grid.shape, tuple(first.shape))
    return None if order is None else [*moves, *order]


def number_by_number(first: Tensor, shape: tuple[int, ...]) -> list[Move] | None:
    """Return any movement as a choice among all numbers; None if there are too many of them.

    Args:
        first, shape: as of `rearranged`; of as many dimensions as there may be.
    """
    count = math.prod(shape)
    if max(count, first.numel()) > _MOST_FEATURES or max(first.dim(), len(shape)) > MOST_AXES:
        return None
    flat = [] if len(shape) == 1 else [_reshape((count,))]
    chosen = select(_in_memory(first, shape).flatten(), (count,))
    return [*flat, chosen] if first.dim() == 1 else [*flat, chosen, _reshape(tuple(first.shape))]


def _choices(places: Sequence[Tensor], shape: tuple[int, ...]) -> list[Move]:
    """A choice along each axis of which not all places are taken in their order."""
    moves: list[Move] = []
    for axis, (indices, size) in enumerate(zip(places, shape, strict=True)):
        before = moves[-1].shape if moves else shape
        if not torch.equal(indices, torch.arange(size)):
            moves.append(select(indices, before) if axis == 0 else take(axis, indices, before))
    return moves


def _by_choice(first: Tensor, coordinates: Tensor, used: Sequence[Tensor], shape: tuple[int, ...]) -> list[Move] | None:
    """`rearranged`, after a choice of these coordinates along each axis, in this order."""
    moves, reduced = _choices(used, shape), tuple(map(len, used))
    kept = [_places_of(indices, size)[line] for indices, size, line in zip(used, shape, coordinates, strict=True)]
    steps = [math.prod(reduced[axis + 1 :]) for axis in range(len(reduced))]
    positions = sum((line * step for line, step in zip(kept, steps, strict=True)), torch.zeros_like(kept[0]))
    order = _permuted(_in_memory(positions.view(first.shape), reduced), reduced, tuple(first.shape))
    return None if order is None else [*moves, *order]


def _places_of(indices: Tensor, size: int) -> Tensor:
    """Where each of 0 … size − 1 stands among indices; of those that do not, anything."""
    places = torch.zeros(size, dtype=torch.int64)
    places[indices] = torch.arange(len(indices))
    return places


def _in_memory(positions: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Positions in [C, *rows] as those in the order of memory, and their own axes in that order too."""
    table = torch.arange(math.prod(shape)).view(*shape[1:], shape[0]).movedim(-1, 0).flatten()
    return table[positions].movedim(0, -1)


def _permuted(memory: Tensor, shape: tuple[int, ...], moved: tuple[int, ...]) -> list[Move] | None:
    """Reshapes and a permutation that read memory in this order, from an image [C, *rows] to [C', *rows']."""
    parts = _strided(memory)
    if parts is None or len(parts) > MOST_AXES:
        return None
    before = [size for size in (*shape[1:], shape[0]) if size > 1]
    after = [size for size in (*moved[1:], moved[0]) if size > 1]
    if parts == sorted(parts, key=lambda part: -part[1]):
        return [_reshape(moved)] if shape != moved else []
    is_plain = _by_stride(parts) == before and [size for size, _ in parts] == after and len(shape) == len(moved)
    if not is_plain or len(before) != len(shape):
        parts = _merged(parts)
    strides = [stride for _, stride in parts]
    places = sorted(range(len(parts)), key=lambda i: -strides[i])
    axes = [places.index(i) for i in range(len(parts))]
    split, permuted = _by_stride(parts), [size for size, _ in parts]
    count = len(axes)
    channels_first = tuple((axes[i - 1] + 1) % count for i in range(count))
    steps = [] if split == [*shape[1:], shape[0]] else [_reshape((split[-1], *split[:-1]))]
    steps.append(_permute(channels_first, (permuted[-1], *permuted[:-1])))
    return steps if steps[-1].shape == moved else [*steps, _reshape(moved)]


def _by_stride(parts: Sequence[tuple[int, int]]) -> list[int]:
    return [size for size, _ in sorted(parts, key=lambda part: -part[1])]


def _strided(memory: Tensor) -> list[tuple[int, int]] | None:
    """(size, stride) of the parts of each axis, outermost first, that reach each place once; None if they are none."""
    parts: list[tuple[int, int]] = []
    for axis in range(memory.dim()):
        found = _parts_of(memory.movedim(axis, 0).reshape(memory.shape[axis], -1)[:, 0])
        if found is None:
            return None
        parts.extend(found)
    expected = 1
    for size, stride in sorted(parts, key=lambda part: part[1]):
        if stride != expected:
            return None
        expected *= size
    places = torch.zeros(1, dtype=torch.int64)
    for size, stride in parts:
        places = (places.unsqueeze(1) + stride * torch.arange(size)).flatten()
    return parts if torch.equal(places, memory.flatten()) else None


def _parts_of(line: Tensor) -> list[tuple[int, int]] | None:
    """(size, stride) of the parts that one axis has, whose places in memory these are."""
    if len(line) == 1:
        return []
    steps = line.diff()
    other = (steps != steps[0]).nonzero()
    run = int(other[0]) + 1 if len(other) > 0 else len(line)
    if len(line) % run != 0:
        return None
    outer = _parts_of(line[::run])
    return None if outer is None else [*outer, (run, int(steps[0]))]


def _merged(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Parts that lie behind one another before and after, as one."""
    merged: list[tuple[int, int]] = []
    for size, stride in parts:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged


def _reshape(moved: tuple[int, ...]) -> Move:
    def function(x: Tensor) -> Tensor:
        return x.movedim(1, -1).reshape(len(x), *moved[1:], moved[0]).movedim(-1, 1)

    return Move("reshape", moved, function)


def _permute(axes: tuple[int, ...], moved: tuple[int, ...]) -> Move:
    return Move("permute", moved, lambda x: x.permute(0, *(axis + 1 for axis in axes)), {"axes": axes})
