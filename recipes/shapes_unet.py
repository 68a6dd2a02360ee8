"""A UNet with transposed convolutions that finds discs, squares and triangles in noise, deployed whole: IoU."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from bitorch import LowBitConfig
from example import Budget, Outcome, Task, run_example, uniform
from recipe import run

SIDE = 32
CLASSES = ("background", "disc", "square", "triangle")


def shapes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures [count, 1, 32, 32] of one shape of each kind in noise, and the class of each pixel, [count, 32, 32]."""
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    picture = uniform(generator, count, SIDE, SIDE, low=0.0, high=0.35)
    labels = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    for kind in (1, 2, 3):
        centre = uniform(generator, 2, count, 1, 1, low=6.0, high=SIDE - 6.0)
        radius = uniform(generator, count, 1, 1, low=3.5, high=6.5)
        dy, dx = y - centre[0], x - centre[1]
        inside = (
            dy.square() + dx.square() <= radius.square(),
            torch.maximum(dy.abs(), dx.abs()) <= radius * 0.85,
            (dy <= radius * 0.7) & (dx.abs() * 1.7 <= dy + radius),
        )[kind - 1]
        grey = uniform(generator, count, 1, 1, low=0.45, high=1.0)
        picture = torch.where(inside, grey + picture * 0.5, picture)
        labels = torch.where(inside, torch.tensor(kind), labels)
    return picture.clamp(0, 1).unsqueeze(1), labels


def iou(results: Tensor, labels: Tensor) -> float:
    """Mean over the classes of the pixels that are right, divided by those that are called so or are so."""
    found = results.argmax(1)
    ratios = []
    for kind in range(len(CLASSES)):
        both, either = ((found == kind) & (labels == kind)).sum(), ((found == kind) | (labels == kind)).sum()
        ratios.append(float(both) / max(float(either), 1.0))
    return sum(ratios) / len(ratios)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Three floors of `width`, 2·width and 4·width channels; transposed convolutions of 2×2 lead up again."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.down = nn.ModuleList([_block(width, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(n * width, n * width // 2, 2, 2) for n in (4, 2)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(n * width) for n in (2, 1)])
        self.join = nn.ModuleList([_block(4 * width, 2 * width), _block(2 * width, width)])
        self.head = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [batch, 4, H, W] of pictures [batch, 1, H, W] whose sides are multiples of 4."""
        floors = [self.down[0](self.stem(x))]
        for block in list(self.down)[1:]:
            floors.append(block(F.max_pool2d(floors[-1], 2)))
        y = floors.pop()
        for up, norm, join in zip(self.up, self.norms, self.join, strict=True):
            y = join(torch.cat([norm(up(y)).relu(), floors.pop()], 1))
        scores: Tensor = self.head(y)
        return scores


TASK = Task(shapes, shapes, F.cross_entropy, "IoU", lambda results, labels: f"{iou(results, labels):.3f}")


@dataclass(frozen=True)
class Options:
    """Train a UNet on synthetic shapes in float and low-bit, deploy it whole, and compare."""

    weight_bits: int = 2
    activation_bits: int = 2
    out: Path | None = None
    """Where the packed file goes."""
    budget: Budget = field(default_factory=Budget)


def main(options: Options, console: Console | None = None) -> Outcome:
    config = LowBitConfig(weight_bits=options.weight_bits, activation_bits=options.activation_bits)
    shown = Console() if console is None else console
    return run_example(UNet, TASK, config, options.budget, options.out, shown)


def _main(options: Options) -> None:
    main(options)


if __name__ == "__main__":
    run(_main, Options)
