"""Fashion-MNIST: the float net beside its twins with 1-bit weights, 2-bit activations and 6- or 4-bit gradients."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bitorch.train import Settings
from bitorch.train.sweep import Outcome, sweep
from recipe import run

NETS: dict[str, tuple[int, int, int]] = {"float": (32, 32, 32), "W1A2G6": (1, 2, 6), "W1A2G4": (1, 2, 4)}


@dataclass(frozen=True)
class Options:
    """Train the float net, the W1A2G6 net and the W1A2G4 net on Fashion-MNIST, all in the same way."""

    folder: Path
    """Folder with the four IDX files of Fashion-MNIST."""
    out: Path = Path("runs/fashion-mnist")
    """Folder of the runs. Runs that are done there are not trained again; interrupted ones go on."""
    epochs: int = 10
    """Passes over the training images."""
    seeds: int = 1
    """Trainings of each net."""
    jobs: int = 2
    """Runs to train at the same time, each with its share of the cores."""


def main(options: Options) -> None:
    console = Console()
    runs = {
        f"{net}-seed{seed}": Settings(
            data="mnist",
            folder=options.folder,
            model="lenet-28",
            bits=bits,
            epochs=options.epochs,
            batch_size=128,
            lr=2e-3,
            shift=1,
            flip=True,
            seed=seed,
        )
        for seed in range(options.seeds)
        for net, bits in NETS.items()
    }

    def on_done(name: str, outcome: Outcome) -> None:
        console.print(f"{name}: {outcome.accuracy:.2%}")

    outcomes = sweep(runs, options.out, jobs=options.jobs, on_done=on_done)
    console.print(table({net: [outcomes[name] for name in runs if name.startswith(net)] for net in NETS}))


def table(by_net: dict[str, list[Outcome]]) -> Table:
    count = len(by_net["float"])
    result = Table(title=f"Fashion-MNIST, LeNet28, 10,000 test images, {count} training{'s' if count > 1 else ''} each")
    for header in ("net", "accuracy, mean (lowest to highest)", "points below float"):
        result.add_column(header, justify="left" if header == "net" else "right")
    means = {net: statistics.mean(outcome.accuracy for outcome in outcomes) for net, outcomes in by_net.items()}
    for net, outcomes in by_net.items():
        accuracies = [outcome.accuracy for outcome in outcomes]
        result.add_row(
            net,
            f"{means[net]:.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})",
            f"{100 * (means['float'] - means[net]):.2f}",
        )
    return result


if __name__ == "__main__":
    run(main, Options)
