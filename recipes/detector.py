"""A one-stage detector of discs, squares and triangles, heads and all in one packed file that serves two sizes: mAP.

    python recipes/detector.py --out detector.bit.safetensors

It trains on scenes of 64×64 pixels, and is deployed for 64×64 and 96×96. Boxes are taken from the grid that the net
gives, and thinned out, by NumPy behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, PackedModel
from detector_boxes import STRIDE, decode, mean_average_precision
from detector_shapes import CLASSES, NOTHING, scenes
from example import Budget, Task, bytes_of, check, learn, nets_of, seconds_of, table_of
from recipe import run

#: Heights and widths that the packed file serves; the net has seen the first in training.
SIDES = (64, 96)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Detector(nn.Module):
    """Three convolutions of stride 2, two of stride 1, and a head of two layers each for classes and for boxes."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, width, 2),
            _block(width, 2 * width, 2),
            _block(2 * width, 4 * width, 2),
            _block(4 * width, 4 * width),
            _block(4 * width, 4 * width),
        )
        self.classes = nn.Sequential(_block(4 * width, 4 * width), nn.Conv2d(4 * width, len(CLASSES), 1))
        self.boxes = nn.Sequential(_block(4 * width, 4 * width), nn.Conv2d(4 * width, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        """A grid [batch, 8, H/8, W/8], as `decode` reads it, of pictures [batch, 3, H, W]."""
        y = self.body(x)
        return torch.cat([self.classes(y), self.boxes(y)], 1)


def detection_loss(grid: Tensor, rows: Tensor) -> Tensor:
    """Cross entropy of classes and of objects, and the distance of boxes.

    Args:
        grid: [batch, 8, H, W].
        rows: [batch, N, 5], see `scenes`; the cell in which its centre lies answers for a shape.
    """
    image, index = (rows[..., 0] != NOTHING).nonzero(as_tuple=True)
    row = rows[image, index]
    size = (row[:, 3:] - row[:, 1:3]) / STRIDE
    centre = (row[:, 3:] + row[:, 1:3]) / (2 * STRIDE)
    cell = centre.long()
    at_cells = grid[image, :, cell[:, 1], cell[:, 0]]  # [shapes, 8]
    is_object = torch.zeros_like(grid[:, 0])
    is_object[image, cell[:, 1], cell[:, 0]] = 1
    kinds = F.cross_entropy(at_cells[:, : len(CLASSES)], row[:, 0].long())
    objects = F.binary_cross_entropy_with_logits(grid[:, len(CLASSES)], is_object, reduction="sum") / len(row)
    wanted = torch.cat([centre - cell - 0.5, size.log()], 1)
    return kinds + objects + 4 * F.smooth_l1_loss(at_cells[:, len(CLASSES) + 1 :], wanted, beta=0.1)


def precision(grid: Tensor, rows: Tensor) -> float:
    """mAP@0.5 of what the net gives for scenes, [count, 8, H, W], and what is in them, [count, N, 5]."""
    found = [decode(one, len(CLASSES)) for one in grid.numpy()]
    truth = [one[one[:, 0] != NOTHING] for one in rows.numpy()]
    return mean_average_precision(found, truth, len(CLASSES))


TASK = Task(
    partial(scenes, SIDES[0]),
    partial(scenes, SIDES[0]),
    detection_loss,
    "mAP@0.5",
    lambda grid, rows: f"{precision(grid, rows):.3f}",
)


@dataclass(frozen=True)
class Options:
    """Train a detector on synthetic scenes in float and low-bit, deploy it for two sizes in one file, and compare."""

    weight_bits: int = 2
    activation_bits: int = 2
    out: Path | None = None
    """Where the packed file goes."""
    budget: Budget = field(default_factory=Budget)


def main(options: Options, console: Console | None = None) -> tuple[PackedModel, dict[int, dict[str, str]]]:
    """Print all of it, and return the packed net, and the mAP of each side and net by its name.

    Raises:
        ValueError: a tensor of the packed net is not the trained net's.
    """
    config = LowBitConfig(
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        last_layers=("classes.1", "boxes.1"),  # of both heads, not only the one that comes last
    )
    floats, low_bit = learn(Detector, TASK, config, options.budget)
    packed = bitorch.deploy(low_bit, torch.rand(1, 3, SIDES[0], SIDES[0]), sizes=[(side, side) for side in SIDES])
    if options.out is not None:
        packed.save(options.out)
    nets = nets_of(floats, low_bit, packed, config)
    shown = Console() if console is None else console
    scores = {}
    for side in SIDES:
        x, rows = scenes(side, options.budget.test, torch.Generator().manual_seed(options.budget.seed + 1))
        verified = check(low_bit, packed, x)
        scores[side] = {name: TASK.score(net(x), rows) for name, net in nets.items()}
        title = f"{side}×{side}, one picture at a time, one thread"
        shown.print(table_of(title, TASK, scores[side], bytes_of(nets, floats, packed), seconds_of(nets, x[:1])))
        shown.print(verified, highlight=False)
    return packed, scores


def _main(options: Options) -> None:
    main(options)


if __name__ == "__main__":
    run(_main, Options)
