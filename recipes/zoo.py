"""BITorch's zoo, ReActNet-A and Bi-Real net for ImageNet's size: what each costs, packed and float, in one table.

Random weights after one step on random images, so that batch norms have seen some. What it shows is sizes and times,
not accuracy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

import bitorch
import bitorch_runtime
from bitorch import PackedModel
from bitorch.atomic_file import write_text
from bitorch.commands.timing import fastest_call
from bitorch.models import LeNet, Model, model_from_name
from bitorch.models.common_layers import IMAGENET_CLASSES, IMAGENET_INPUT_SHAPE
from recipe import run
from zoo_table import Costs, line, page

_MNIST_SHAPE, _MNIST_CLASSES = (1, 1, 28, 28), 10
_VERSIONS = {f"LeNet version {version}": version for version in range(4)}
NAMES = (
    *_VERSIONS,
    "Resnet18V1",
    "Resnet18V2",
    "Resnet34V1",
    "Resnet34V2",
    "Resnet50V1",
    "Resnet50V2",
    "Resnet152V1",
    "Resnet152V2",
    "ResnetE18",
    "ResnetE34",
    "BiRealNet18",
    "ReActNetA",
    "DenseNet28",
    "DenseNet37",
    "DenseNet45",
    "MeliusNet22",
    "MeliusNet23",
    "MeliusNet29",
    "MeliusNet42",
    "MeliusNet59",
    "MeliusNetA",
    "MeliusNetB",
    "MeliusNetC",
    "QuickNetSmall",
    "QuickNet",
    "QuickNetLarge",
)


@dataclass(frozen=True)
class Options:
    """Build, train for a step, deploy and time the nets of the zoo, on one thread."""

    names: tuple[str, ...] = ()
    """Names as in the table; none: all of them."""
    docs: Path | None = None
    """Markdown file to write the table to, after each net."""
    side: int | None = None
    """Of the images, in place of 224 and of MNIST's 28."""
    repeats: int = 7
    """Calls that are timed, of which the fastest counts."""
    seed: int = 0
    """Of weights, images and labels."""


def main(options: Options) -> None:
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        raise ValueError(f"unknown names {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {options.repeats}")
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    console = Console()
    found: list[Costs] = []
    for name in options.names if options.names else NAMES:
        costs, about = measured(name, options)
        found.append(costs)
        console.print(line(costs), markup=False, highlight=False, soft_wrap=True)
        if options.docs is not None:
            write_text(options.docs, page(found, about))


def measured(name: str, options: Options) -> tuple[Costs, Mapping[str, str]]:
    """Return what a net costs, and when and where that was measured."""
    torch.manual_seed(options.seed)
    net, shape, classes = built(name, options.side)
    _step(net, torch.randn(2, *shape[1:]), classes)
    image = torch.randn(1, *shape[1:])
    packed = _deployed(net.eval(), image)
    report = bitorch.report(net, image, packed=packed, repeats=1)
    floating = copy.deepcopy(net)
    bitorch.float_(floating)
    with torch.inference_mode():
        float_seconds = fastest_call(lambda: floating(image), options.repeats)
    if packed is not None and packed.nbytes != report.totals.packed_bytes:
        raise RuntimeError(f"the report has {report.totals.packed_bytes} bytes, and the file {packed.nbytes}")
    costs = Costs(
        name=name,
        side=shape[-1],
        parameters=report.totals.parameters,
        macs=report.totals.macs,
        float_bytes=report.totals.float_bytes,
        packed_bytes=report.totals.packed_bytes,
        problem=report.problems[0] if packed is None else "",
        packed_seconds=None if packed is None else _seconds(packed, image, options.repeats),
        float_seconds=float_seconds,
    )
    return costs, report.about


def built(name: str, side: int | None) -> tuple[Model, tuple[int, ...], int]:
    """Return a new net, the shape of its images as a batch of one, and its number of classes."""
    if name in _VERSIONS:
        shape = _MNIST_SHAPE if side is None else (*_MNIST_SHAPE[:2], side, side)
        return LeNet(shape, _MNIST_CLASSES, _VERSIONS[name]), shape, _MNIST_CLASSES
    shape = IMAGENET_INPUT_SHAPE if side is None else (*IMAGENET_INPUT_SHAPE[:2], side, side)
    return model_from_name(name)(shape, num_classes=IMAGENET_CLASSES), shape, IMAGENET_CLASSES


def _step(net: nn.Module, images: Tensor, classes: int) -> None:
    optimizer = torch.optim.Adam(net.train().parameters(), lr=1e-3)
    F.cross_entropy(net(images), torch.randint(classes, (len(images),))).backward()
    optimizer.step()


def _deployed(net: nn.Module, image: Tensor) -> PackedModel | None:
    """Return the packed net; None where it is no single file, and the report will say why."""
    try:
        return bitorch.deploy(net, image)
    except ValueError:
        return None


def _seconds(packed: PackedModel, image: Tensor, repeats: int) -> float:
    packed(image)  # plans and allocates
    return fastest_call(lambda: packed(image), repeats)


if __name__ == "__main__":
    run(main, Options)
