"""Movements that take places of each axis in a grid: windows that overlap, repetitions, slices of split axes.

Each axis of the result is split into parts, of which each leads along one axis of the source, or along none. The parts
of a source axis together say which of its places are taken, in which order and how often.

    [L] as windows [n, k]           parts n and k lead along L: places 0 … k − 1, s … s + k − 1, 2s …
    [C, H, W] unfolded to [C·k·k, n·m]    C, then k and n along H, k and m along W
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """What a movement takes.

    Attributes:
        places: of each axis of the source, those that are taken.
        positions: where each number of the result stands in what was taken, int64 [*moved shape].
        shape: of what was taken.
    """

    places: tuple[Tensor, ...]
    positions: Tensor
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Part:
    size: int
    axis: int  # of the source


def grid_of(first: Tensor, shape: tuple[int, ...]) -> Grid | None:
    """Return how a movement takes places of each axis; None if it is none such.

    Args:
        first: positions within the image, int64 [*moved shape].
        shape: of the image before it was moved.
    """
    coordinates = torch.stack(torch.unravel_index(first, shape)) if first.numel() > 0 else first.unsqueeze(0)
    parts: list[_Part] = []
    for axis in range(first.dim()):
        found = _parts_of(coordinates.movedim(axis + 1, 1).flatten(2)[:, :, 0], spare=len(shape) - 1)
        if found is None:
            return None
        parts.extend(found)
    sizes = [part.size for part in parts]
    split = coordinates.reshape(len(shape), *sizes)
    places, numbers = [], []
    for axis in range(len(shape)):
        mine = [i for i, part in enumerate(parts) if part.axis == axis]
        line = split[axis][tuple(slice(None) if i in mine else 0 for i in range(len(parts)))]
        along = [sizes[i] if i in mine else 1 for i in range(len(parts))]
        if not torch.equal(split[axis], line.reshape(along).expand(sizes)):
            return None
        places.append(line.flatten())
        numbers.append(torch.arange(line.numel()).reshape(along).expand(sizes))
    taken = tuple(map(len, places))
    steps = [math.prod(taken[axis + 1 :]) for axis in range(len(taken))]
    positions = sum((n * step for n, step in zip(numbers, steps, strict=True)), torch.zeros(sizes, dtype=torch.int64))
    return Grid(tuple(places), positions.reshape(first.shape), taken)


def _parts_of(line: Tensor, spare: int) -> list[_Part] | None:
    """The parts of one axis of the result, outermost first.

    Args:
        line: coordinates along it, [source axes, places].
        spare: the axis of the source that repetitions are taken of.
    """
    count = line.shape[1]
    if count == 1:
        return []
    axes = [axis for axis, values in enumerate(line) if bool((values != values[0]).any())]
    if len(axes) <= 1:
        return [_Part(count, axes[0] if axes else spare)]
    for size in range(count // 2, 1, -1):
        if count % size == 0:
            blocks = line.view(len(line), -1, size)
            inner = blocks - blocks[:, :, :1]
            varying = [axis for axis, values in enumerate(inner[:, 0]) if bool((values != 0).any())]
            if len(varying) <= 1 and torch.equal(inner, inner[:, :1].expand_as(inner)):
                outer = _parts_of(blocks[:, :, 0], spare)
                return None if outer is None else [*outer, _Part(size, varying[0] if varying else spare)]
    return None
