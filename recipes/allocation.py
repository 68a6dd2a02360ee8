"""ResNet-20 with bits chosen for each layer beside the same net with 2 bits in all: which is better for its bytes?

Each seed trains one start with 4-bit weights and activations. From there two nets go on, equally long and with the same
images in the same order: one with 2 bits in all low-bit layers, one with the bits that `bitorch.allocate` finds on
images held out from training, for a budget below the bytes of the first. The test images are for the last line only.
"""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import bitorch
from allocation_training import accuracy, batches, split, train
from bitorch.data import Dataset, Images, load, to_float
from bitorch.models import ResNet20
from recipe import run

START, UNIFORM = (4, 4), (2, 2)


@dataclass(frozen=True)
class Options:
    """Compare a mix of bits with 2 bits everywhere, in a ResNet-20."""

    folder: Path | None = None
    """Folder with four IDX files, such as Fashion-MNIST's; without one, scikit-learn's digits are taken."""
    width: int = 16
    """Channels of the first stage; ResNet-20 has 16."""
    images: int = 1152
    """Training images to take."""
    held_out: int = 256
    """Images held out from training, that the bits are chosen by."""
    start_epochs: int = 20
    """Passes over the training images with 4 bits."""
    epochs: int = 20
    """Passes with 2 bits, and with the mix."""
    lr: float = 2e-3
    """Learning rate of the start; the two nets behind it begin with half of it."""
    fraction: float = 0.95
    """Of the bytes of the net with 2 bits in all layers: the budget."""
    weight_bits: tuple[int, ...] = (1, 2, 3)
    """To choose from."""
    activation_bits: tuple[int, ...] = (2, 3)
    """To choose from."""
    seeds: int = 5
    """Starts, and trainings of each net."""


@dataclass(frozen=True)
class Result:
    """Accuracy on the test images, and bytes of the packed file."""

    accuracy: float
    nbytes: int


def main(options: Options) -> None:
    torch.set_num_threads(1)
    console = Console()
    data = load("digits") if options.folder is None else load("mnist", options.folder)
    rows = []
    for seed in range(options.seeds):
        start, uniform, mix = one_seed(options, data, seed, console)
        rows.append((start, uniform, mix))
        console.print(
            f"seed {seed}: W4A4 {start.accuracy:.2%}, W2A2 {uniform.accuracy:.2%} with {uniform.nbytes:,} bytes, "
            f"mix {mix.accuracy:.2%} with {mix.nbytes:,} bytes"
        )
    console.print(table(data.name, rows))


def one_seed(options: Options, data: Dataset[Images], seed: int, console: Console) -> tuple[Result, Result, Result]:
    """Return what became of the start, the uniform net and the mix."""
    images, held_out = split(data.train, options.images, options.held_out)
    torch.manual_seed(seed)
    start = ResNet20(data.train.images.shape[1], data.train.num_classes, options.width)
    bitorch.quantize_(start, bitorch.LowBitConfig(*START))
    train(start, images, epochs=options.start_epochs, lr=options.lr, seed=seed)
    nets: dict[str, Result] = {}
    for name, rules in (("uniform", UNIFORM), ("mix", None)):
        net = copy.deepcopy(start)
        if rules is None:
            pairs = [(weight, activation) for weight in options.weight_bits for activation in options.activation_bits]
            budget = bitorch.Budget(bytes=int(options.fraction * nets["uniform"].nbytes))
            found = bitorch.allocate(net, batches(held_out), budget, pairs)
            console.print(str(found), highlight=False)
            bitorch.set_bits(net, found.rules)
        else:
            bitorch.set_bits(net, rules)
        train(net, images, epochs=options.epochs, lr=options.lr / 2, seed=seed)
        nets[name] = result(net, data)
    return result(start, data), nets["uniform"], nets["mix"]


def result(net: nn.Module, data: Dataset[Images]) -> Result:
    """Evaluate and deploy a net."""
    packed = bitorch.deploy(net.eval(), to_float(data.test.images[:1]))
    return Result(accuracy(net, data.test), packed.nbytes)


def table(data: str, rows: list[tuple[Result, Result, Result]]) -> Table:
    seeds = len(rows)
    made = Table(title=f"ResNet-20 on {data}, {seeds} seed{'s' if seeds > 1 else ''}")
    for header in ("net", "test accuracy, mean (lowest to highest)", "bytes of the packed file, mean"):
        made.add_column(header, justify="left" if header == "net" else "right")
    for name, column in zip(("W4A4, the start", "W2A2 in all layers", "mix"), zip(*rows, strict=True), strict=True):
        accuracies = [result.accuracy for result in column]
        mean = statistics.mean(accuracies)
        made.add_row(
            name,
            f"{mean:.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})",
            f"{round(statistics.mean(result.nbytes for result in column)):,}",
        )
    return made


if __name__ == "__main__":
    run(main, Options)
