"""A classifier of volumes: low-bit convolutions of three axes tell balls, cubes, crosses and shells apart in noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from bitorch import LowBitConfig
from example import Budget, Outcome, Task, run_example, uniform
from recipe import run

SIDE = 16
CLASSES = ("ball", "cube", "cross", "shell")


def volumes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Volumes [count, 1, 16, 16, 16] with one body each, of any size and place, in noise; and its class, [count]."""
    axis = torch.arange(SIDE) + 0.5
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    labels = torch.randint(len(CLASSES), (count,), generator=generator)
    centre = uniform(generator, count, 3, 1, 1, 1, low=6.0, high=SIDE - 6.0)
    size = uniform(generator, count, 1, 1, 1, low=3.5, high=5.5)
    away = (places - centre).abs()  # [count, 3, D, H, W]
    distance, largest = away.square().sum(1).sqrt(), away.amax(1)
    thin = (away <= size.unsqueeze(1) * 0.35).sum(1)
    bodies = torch.stack(
        [
            distance <= size,
            largest <= size * 0.8,
            (thin >= 2) & (largest <= size),
            (distance <= size) & (distance >= size - 1.6),
        ],
        1,
    )
    body = bodies[torch.arange(count), labels]
    noise = uniform(generator, count, SIDE, SIDE, SIDE, high=0.5)
    return (noise + body * uniform(generator, count, 1, 1, 1, low=0.25, high=0.5)).unsqueeze(1), labels


def accuracy(results: Tensor, labels: Tensor) -> float:
    """The share of volumes whose class is the one of the largest score."""
    return float((results.argmax(1) == labels).float().mean())


class Classifier(nn.Module):
    """Three convolutions of 3×3×3, each with a max-pool behind it, and the mean over what is left."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        channels = [1, width, 2 * width, 4 * width]
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv3d(before, behind, 3, padding=1, bias=False),
                    nn.BatchNorm3d(behind),
                    nn.ReLU(),
                    nn.MaxPool3d(2),
                )
                for before, behind in pairwise(channels)
            )
        )
        self.head = nn.Linear(4 * width, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [batch, 4] of volumes [batch, 1, D, H, W]."""
        scores: Tensor = self.head(self.features(x).mean((2, 3, 4)))
        return scores


TASK = Task(volumes, volumes, F.cross_entropy, "accuracy", lambda results, labels: f"{accuracy(results, labels):.1%}")


@dataclass(frozen=True)
class Options:
    """Train a classifier of volumes in float and low-bit, deploy it whole, and compare."""

    weight_bits: int = 1
    activation_bits: int = 2
    out: Path | None = None
    """Where the packed file goes."""
    budget: Budget = field(default_factory=lambda: Budget(steps=150))


def main(options: Options, console: Console | None = None) -> Outcome:
    config = LowBitConfig(weight_bits=options.weight_bits, activation_bits=options.activation_bits)
    shown = Console() if console is None else console
    return run_example(Classifier, TASK, config, options.budget, options.out, shown)


def _main(options: Options) -> None:
    main(options)


if __name__ == "__main__":
    run(_main, Options)
