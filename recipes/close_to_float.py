"""Fashion-MNIST: what it takes to keep 1-bit weights, 2-bit activations and 6-bit gradients close to the float net.

Each seed trains the float net; from its weights, and from its answers beside the labels, the low-bit net learns for as
many epochs more, with ranges that are calibrated on the float net and learned from there.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bitorch.train import Settings
from bitorch.train.sweep import Outcome, sweep
from recipe import run

FLOAT = (32, 32, 32)
BITS = (1, 2, 6)


@dataclass(frozen=True)
class Options:
    """Train float LeNet28 on Fashion-MNIST, and from it its W1A2G6 twin, with several seeds."""

    folder: Path
    """Folder with the four IDX files of Fashion-MNIST."""
    out: Path = Path("runs/close-to-float")
    """Folder of the runs. Runs that are done there are not trained again; interrupted ones go on."""
    epochs: int = 6
    """Passes of the float net over the training images."""
    low_bit_epochs: int = 6
    """Passes of the low-bit net, after those of the float net that it starts from."""
    width: float = 0.5
    """Factor on the channels of LeNet28, of both nets."""
    seeds: int = 5
    """Trainings of each net."""
    jobs: int = 2
    """Runs to train at the same time, each with its share of the cores."""


def main(options: Options) -> None:
    console = Console()

    def on_done(name: str, outcome: Outcome) -> None:
        console.print(f"{name}: {outcome.accuracy:.2%}")

    seeds = range(options.seeds)
    nets = {f"float-seed{seed}": float_net(options, seed) for seed in seeds}
    low_bit = {f"W1A2G6-seed{seed}": low_bit_net(options, seed) for seed in seeds}
    floats = sweep(nets, options.out, jobs=options.jobs, on_done=on_done)
    outcomes = sweep(low_bit, options.out, jobs=options.jobs, on_done=on_done)
    console.print(table(list(floats.values()), list(outcomes.values())))


def float_net(options: Options, seed: int) -> Settings:
    return Settings(
        data="mnist",
        folder=options.folder,
        model="lenet-28",
        width=options.width,
        bits=FLOAT,
        epochs=options.epochs,
        batch_size=128,
        lr=2e-3,
        flip=True,
        seed=seed,
    )


def low_bit_net(options: Options, seed: int) -> Settings:
    twin = options.out / f"float-seed{seed}" / "last.ckpt"
    return replace(
        float_net(options, seed),
        bits=BITS,
        range="learned",
        weight_scale="channel",
        epochs=options.low_bit_epochs,
        init=twin,
        distil=twin,
    )


def table(floats: list[Outcome], low_bit: list[Outcome]) -> Table:
    count = len(floats)
    result = Table(title=f"Fashion-MNIST, LeNet28, 10,000 test images, {count} training{'s' if count > 1 else ''} each")
    for header in ("net", "epochs", "accuracy, mean (lowest to highest)", "points below float (lowest to highest)"):
        result.add_column(header, justify="left" if header == "net" else "right")
    below = [100 * (full.accuracy - low.accuracy) for full, low in zip(floats, low_bit, strict=True)]
    for net, outcomes in (("float", floats), ("W1A2G6, from float", low_bit)):
        accuracies = [outcome.accuracy for outcome in outcomes]
        result.add_row(
            net,
            str(len(outcomes[0].history)),
            f"{statistics.mean(accuracies):.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})",
            "" if net == "float" else f"{statistics.mean(below):.2f} ({min(below):.2f} to {max(below):.2f})",
        )
    return result


if __name__ == "__main__":
    run(main, Options)
