"""Starting a low-bit net from its float twin: how many epochs does that save? W1A2 on Fashion-MNIST."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bitorch.train import Settings
from bitorch.train.sweep import Outcome, sweep
from recipe import run

BITS = (1, 2, 32)
FLOAT = (32, 32, 32)


@dataclass(frozen=True)
class Options:
    """Train W1A2 nets from scratch, and in half the epochs from the float net, on Fashion-MNIST."""

    folder: Path
    """Folder with the four IDX files of Fashion-MNIST."""
    out: Path = Path("runs/from-float")
    """Folder of the runs. Runs that are done there are not trained again; interrupted ones go on."""
    epochs: int = 6
    """Passes over the training images from scratch, an even number; from the float net half as many."""
    width: float = 0.25
    """Factor on the channels of LeNet28."""
    seeds: int = 3
    """Trainings of each net."""
    jobs: int = 2
    """Runs to train at the same time, each with its share of the cores."""


def main(options: Options) -> None:
    if options.epochs < 4 or options.epochs % 2:
        raise ValueError(f"epochs must be even and at least 4, got {options.epochs}")
    console = Console(width=100)
    half = options.epochs // 2
    seeds = range(options.seeds)

    def train(starts: dict[str, dict[str, Any]]) -> dict[str, list[Outcome]]:
        runs = {
            f"{name}, seed {seed}": _settings(
                options, seed, {k: v(seed) if callable(v) else v for k, v in fields.items()}
            )
            for name, fields in starts.items()
            for seed in seeds
        }
        outcomes = sweep(runs, options.out, jobs=options.jobs)
        return {name: [outcomes[f"{name}, seed {seed}"] for seed in seeds] for name in starts}

    def float_twin(seed: int) -> Path:
        return options.out / f"float, seed {seed}" / "last.ckpt"

    rows = train({"float": {"bits": FLOAT, "epochs": options.epochs}})
    rows |= train(
        {
            "from scratch": {"epochs": options.epochs},
            "from scratch, half the epochs": {"epochs": half},
            "from float": {"epochs": half, "init": float_twin},
            "from float, distilled": {"epochs": half, "init": float_twin, "distil": float_twin},
            "from float, activations first": {
                "epochs": half, "init": float_twin, "warm_start": "activations-first", "warm_start_epochs": 2,
            },
            "learned ranges, from scratch": {"epochs": options.epochs, "range": "learned"},
            "learned ranges, from float": {"epochs": half, "range": "learned", "init": float_twin},
        }
    )  # fmt: skip
    console.print(table(f"W1A2 LeNet28, width {options.width}, Fashion-MNIST, {options.seeds} seeds", rows))


def _settings(options: Options, seed: int, fields: dict[str, Any]) -> Settings:
    common: dict[str, Any] = {
        "data": "mnist", "folder": options.folder, "model": "lenet-28", "width": options.width, "bits": BITS,
        "batch_size": 256, "lr": 4e-3, "flip": True, "seed": seed,
    }  # fmt: skip
    return Settings(**{**common, **fields})


def table(title: str, rows: dict[str, list[Outcome]]) -> Table:
    """Return a table of means and standard deviations, and the distance to training from scratch."""
    result = Table(title=title)
    for header in ("start", "epochs", "accuracy", "± sd", "points to from scratch"):
        result.add_column(header, justify="left" if header == "start" else "right")
    means = {name: 100 * statistics.mean(o.accuracy for o in outcomes) for name, outcomes in rows.items()}
    for name, outcomes in rows.items():
        spread = statistics.stdev(100 * o.accuracy for o in outcomes) if len(outcomes) > 1 else 0.0
        difference = "" if name == "from scratch" else f"{means[name] - means['from scratch']:+.2f}"
        result.add_row(name, str(len(outcomes[0].history)), f"{means[name]:.2f} %", f"{spread:.2f}", difference)
    return result


if __name__ == "__main__":
    run(main, Options)
