"""Scenes of discs, squares and triangles on noisy ground, with the box of each."""

from __future__ import annotations

import torch
from torch import Tensor

from example import uniform

CLASSES = ("disc", "square", "triangle")
#: A scene has so many shapes at the most for each 32×32 pixels.
_AREA = 32 * 32
#: The class of a row that holds no shape.
NOTHING = -1


def scenes(side: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw scenes of any size; shapes have the same sizes in all, so that a larger scene has more of them.

    Args:
        side: height and width in pixels.
        count: of the scenes.

    Returns:
        Pictures [count, 3, side, side] from 0 to 1, and [count, N, 5] with a row for each shape: its class, left, top,
        right and bottom in pixels. The rows of those that found no room have the class `NOTHING`. Boxes never touch.
    """
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    ground = uniform(generator, count, 3, 1, 1, low=0.1, high=0.5)
    picture = ground + uniform(generator, count, 3, side, side, low=-0.2, high=0.2)
    rows = torch.full((count, side * side // _AREA, 5), float(NOTHING))
    for index in range(rows.shape[1]):
        kind = torch.randint(len(CLASSES), (count,), generator=generator)
        radius = uniform(generator, count, low=5.0, high=11.0)
        # whole in the picture, which has room for it on both sides
        centre = radius + uniform(generator, 2, count) * (side - 2 * radius)
        dy, dx = y - centre[0].view(-1, 1, 1), x - centre[1].view(-1, 1, 1)
        box = _box(kind, centre, radius)
        placed = ~_touching(box, rows[:, :index]).any(1)
        inside = _inside(kind, dy, dx, radius.view(-1, 1, 1)) & placed.view(-1, 1, 1)
        colour = uniform(generator, count, 3, 1, 1, low=0.3, high=0.6) + ground
        picture = torch.where(inside.unsqueeze(1), colour + (picture - ground) * 0.7, picture)
        rows[placed, index] = torch.cat([kind.unsqueeze(1).float(), box], 1)[placed]
    return picture.clamp(0, 1), rows


def _inside(kind: Tensor, dy: Tensor, dx: Tensor, radius: Tensor) -> Tensor:
    """The pixels of shapes: [count, side, side]."""
    inside = torch.stack(
        [
            dy.square() + dx.square() <= radius.square(),
            torch.maximum(dy.abs(), dx.abs()) <= radius * 0.85,
            (dy <= radius * 0.85) & (dx.abs() * 1.7 <= dy + radius * 0.85),
        ]
    )
    return inside[kind, torch.arange(len(kind))]


def _box(kind: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Left, top, right and bottom of shapes, [count, 4]: what `_inside` fills. The triangle is as wide as a disc."""
    half_width = radius * torch.tensor([1.0, 0.85, 1.0])[kind]
    half_height = radius * torch.tensor([1.0, 0.85, 0.85])[kind]
    y, x = centre
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], 1)


def _touching(box: Tensor, rows: Tensor) -> Tensor:
    """Whether a box [count, 4] shares a pixel with those of rows [count, N, 5]: [count, N]."""
    box = box.unsqueeze(1)
    apart = (box[..., :2] >= rows[..., 3:]) | (box[..., 2:] <= rows[..., 1:3])
    return ~apart.any(2) & (rows[..., 0] != NOTHING)
