"""Pictures of twice the size: low-bit convolutions and PixelShuffle on top of bicubic interpolation, PSNR beside it."""

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


def pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures [count, 1, 16, 16], and what they are the means of 2×2 pixels of: [count, 1, 32, 32].

    Discs and stripes of any grey before others, with the edges that a camera gives them: one pixel wide.
    """
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    picture = uniform(generator, count, 1, 1, low=0.1, high=0.9).expand(count, SIDE, SIDE)
    for index in range(6):
        centre = uniform(generator, 2, count, 1, 1, high=SIDE)
        angle, size = uniform(generator, count, 1, 1, high=6.3), uniform(generator, count, 1, 1, low=1.5, high=8.0)
        dy, dx = y - centre[0], x - centre[1]
        distance = (dy.square() + dx.square()).sqrt() if index % 2 else (dy * angle.sin() + dx * angle.cos()).abs()
        part = (size / (1 if index % 2 else 3) - distance + 0.5).clamp(0, 1)
        picture = picture * (1 - part) + uniform(generator, count, 1, 1) * part
    large = picture.unsqueeze(1)
    return F.avg_pool2d(large, 2), large


def psnr(results: Tensor, large: Tensor) -> float:
    """10·log10(1 / the mean squared error), in decibels."""
    return float(-10 * (results - large).square().mean().log10())


def bicubic(x: Tensor) -> Tensor:
    """The same pictures twice as large."""
    return F.interpolate(x, scale_factor=2, mode="bicubic")


class SuperResolution(nn.Module):
    """What is missing in a bicubic picture: four numbers for each pixel, which PixelShuffle puts into 2×2."""

    def __init__(self, width: int = 32, layers: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width))
        self.body = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            for _ in range(layers)
        )
        self.last = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # it begins with what is bicubic
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]  # it has one
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1, H, W] to [batch, 1, 2·H, 2·W]."""
        y = self.first(x)
        for block in self.body:
            y = y + block(y)
        larger: Tensor = bicubic(x) + self.shuffle(self.last(F.relu(y)))
        return larger


TASK = Task(pictures, pictures, F.mse_loss, "PSNR", lambda results, large: f"{psnr(results, large):.2f} dB")


@dataclass(frozen=True)
class Options:
    """Train a net that doubles pictures in float and low-bit, deploy it whole, and compare it with bicubic."""

    weight_bits: int = 4
    activation_bits: int = 4
    out: Path | None = None
    """Where the packed file goes."""
    budget: Budget = field(default_factory=Budget)


def main(options: Options, console: Console | None = None) -> Outcome:
    config = LowBitConfig(weight_bits=options.weight_bits, activation_bits=options.activation_bits)
    shown = Console() if console is None else console
    outcome = run_example(SuperResolution, TASK, config, options.budget, options.out, shown)
    x, large = pictures(options.budget.test, torch.Generator().manual_seed(options.budget.seed + 1))
    shown.print(f"bicubic alone: {psnr(bicubic(x), large):.2f} dB", highlight=False)
    return outcome


def _main(options: Options) -> None:
    main(options)


if __name__ == "__main__":
    run(_main, Options)
