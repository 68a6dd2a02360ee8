"""Does training on integers learn, and how fast? Digits and Fashion-MNIST, in float32, bfloat16 and with few bits.

Low-bit nets train twice from each seed: simulated, on floats that hold codes, and on integers, by the runtime's
kernels. Seconds are those of training alone, data among it and validation not; seeds are trained one after the other,
each in all ways, so that a drift of the machine meets all of them alike. Leave the machine to itself meanwhile.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from bitorch.data import Dataset, Images, digits
from bitorch.data.mnist import mnist_folder
from bitorch.layers.integer_kernels import machine_obstacle
from bitorch.models import LeNet8
from integer_training_figure import draw
from integer_training_net import small_net
from integer_training_runs import Run, Task, Way, trained
from integer_training_table import FLOAT, table
from recipe import run

BITS = {"W1A2G6": (1, 2, 6), "W2A4G8": (2, 4, 8)}


@dataclass(frozen=True)
class Options:
    """Train the same net in float32, in bfloat16, and with few bits on floats and on integers."""

    folder: Path | None = None
    """Folder with the four IDX files of Fashion-MNIST; without it, digits only."""
    out: Path = Path("runs/integer-training")
    """Folder of the runs and of the picture. Runs that are done there are not trained again."""
    seeds: int = 5
    """Trainings of each net, in each way."""
    epochs: int | None = None
    """Passes over the training images. Default: 20 of digits, 4 of Fashion-MNIST."""
    images: int = 10_000
    """Training images of Fashion-MNIST, and of digits at most, the first ones."""
    test_images: int = 10_000
    """Test images, the first ones, at most."""
    threads: int = 2
    """Threads of PyTorch, on which the integer kernels compute, too."""
    fused: bool = True
    """Train on integers also with bitorch.fuse_training_."""

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "images", "test_images", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


def main(options: Options) -> None:
    console = Console(width=None if sys.stdout.isatty() else 130)
    why = machine_obstacle()
    if why is not None:
        console.print(f"nets on integers compute on floats here, for the same numbers: {why}")
    torch.set_num_threads(options.threads)
    tasks = {"digits": digits_task(options)}
    if options.folder is not None:
        tasks["Fashion-MNIST"] = fashion_mnist_task(options, options.folder)
    by_data = {}
    for data, task in tasks.items():
        by_data[data] = train_all(options, data, task, console)
        count = len(task.data.train)
        title = (
            f"{data}, {count:,} images to train, {len(task.data.test):,} to test, {task.epochs} epochs, "
            f"{options.seeds} seed{'s' * (options.seeds > 1)}, {options.threads} thread{'s' * (options.threads > 1)}"
        )
        console.print(table(title, by_data[data], task.target))
    picture = options.out / "integer-training.png"
    draw(picture, by_data)
    console.print(f"picture: {picture}; Python {platform.python_version()}, torch {torch.__version__}")


def train_all(options: Options, data: str, task: Task, console: Console) -> dict[str, list[Run]]:
    """Return the runs of each way, in the order of the seeds."""
    runs: dict[str, list[Run]] = {name: [] for name in ways(options)}
    for seed in range(options.seeds):
        for name, way in ways(options).items():
            path = options.out / data.lower() / f"{name.replace(', ', '-')}-seed{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            result = trained(path, task, way, seed, options.threads)
            runs[name].append(result)
            console.print(
                f"{data}, {name}, seed {seed}: {result.accuracy:.2%} in {sum(result.seconds):.1f} s", highlight=False
            )
    return runs


def ways(options: Options) -> dict[str, Way]:
    """Return how nets are trained, float32 first."""
    found = {FLOAT: Way(), "bf16": Way(bf16=True)}
    for name, bits in BITS.items():
        found[f"{name}, simulated"] = Way(bits, kernels="float")
        found[f"{name}, integer"] = Way(bits)
        if options.fused:
            found[f"{name}, integer, fused"] = Way(bits, fused=True)
    return found


def digits_task(options: Options) -> Task:
    epochs = 20 if options.epochs is None else options.epochs
    return Task(part_of(digits(), options), LeNet8, epochs, batch_size=64, lr=2e-3, target=0.98)


def fashion_mnist_task(options: Options, folder: Path) -> Task:
    epochs = 4 if options.epochs is None else options.epochs
    return Task(part_of(mnist_folder(folder), options), small_net, epochs, batch_size=64, lr=2e-3, target=0.8)


def part_of(data: Dataset[Images], options: Options) -> Dataset[Images]:
    """Return the first images of both parts."""
    return Dataset(data.name, first(data.train, options.images), first(data.test, options.test_images))


def first(images: Images, count: int) -> Images:
    return Images(images.images[:count], images.labels[:count], images.num_classes)


if __name__ == "__main__":
    run(main, Options)
