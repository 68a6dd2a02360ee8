"""Every method beside plain DoReFa, over several seeds: learned ranges, ternary and per-channel weights, MobileNet."""

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

Fields = dict[str, Any]

#: Tables: title, the net for each data set, and the methods, each below the one that it is compared with.
GROUPS: dict[str, dict[str, Fields]] = {
    "LeNet": {
        "float": {"bits": (32, 32, 32)},
        "W2A2 DoReFa": {"bits": (2, 2, 32)},
        "W2A2 PACT": {"bits": (2, 2, 32), "range": "learned", "learned_by": "pact"},
        "W2A2 LSQ": {"bits": (2, 2, 32), "range": "learned"},
        "W2A2 LSQ+": {"bits": (2, 2, 32), "range": "learned", "learned_by": "lsq+"},
        "W2A2 SEQ": {"bits": (2, 2, 32), "range": "learned", "weights_method": "seq"},
        "W1A2 binary": {"bits": (1, 2, 32)},
        "W1A2 binary per channel": {"bits": (1, 2, 32), "weight_scale": "channel"},
        "TWN A2": {"bits": (2, 2, 32), "weights_method": "twn"},
        "absmean A2": {"bits": (2, 2, 32), "weights_method": "absmean"},
        "TTQ A2": {"bits": (2, 2, 32), "weights_method": "ttq"},
    },
    "MobileNetV2": {
        "float": {"bits": (32, 32, 32)},
        "W4A4 DoReFa": {"bits": (4, 4, 32)},
        "W4A4 LSQ per channel": {"bits": (4, 4, 32), "range": "learned", "weight_scale": "channel"},
    },
}
#: What each method is compared with.
BASELINES = {
    "W2A2 PACT": "W2A2 DoReFa",
    "W2A2 LSQ": "W2A2 DoReFa",
    "W2A2 LSQ+": "W2A2 DoReFa",
    "W2A2 SEQ": "W2A2 DoReFa",
    "W1A2 binary per channel": "W1A2 binary",
    "TWN A2": "W1A2 binary",
    "absmean A2": "W1A2 binary",
    "TTQ A2": "W1A2 binary",
}
NETS: dict[str, dict[str, Fields]] = {
    "digits": {
        "LeNet": {"model": "lenet-8", "epochs": 20, "batch_size": 64, "lr": 2e-3},
        "MobileNetV2": {"model": "mobilenet-v2", "pad_to": 16, "epochs": 30, "batch_size": 64, "lr": 4e-3},
    },
    "fashion-mnist": {
        "LeNet": {"model": "lenet-28", "width": 0.25, "epochs": 2, "batch_size": 256, "lr": 4e-3, "flip": True},
        "MobileNetV2": {
            "model": "mobilenet-v2", "width": 0.5, "epochs": 2, "batch_size": 256, "lr": 4e-3, "flip": True
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Train nets with every method, all in the same way, on digits and, with --folder, on Fashion-MNIST."""

    folder: Path | None = None
    """Folder with the four IDX files of Fashion-MNIST."""
    out: Path = Path("runs/methods")
    """Folder of the runs. Runs that are done there are not trained again; interrupted ones go on."""
    seeds: int = 5
    """Trainings of each net."""
    jobs: int = 2
    """Runs to train at the same time, each with its share of the cores."""


def main(options: Options) -> None:
    console = Console(width=100)
    for data, nets in NETS.items():
        if data != "digits" and options.folder is None:
            continue
        for group, methods in GROUPS.items():
            runs = {
                f"{method}, seed {seed}": _settings(data, options.folder, {**nets[group], **fields}, seed)
                for method, fields in methods.items()
                for seed in range(options.seeds)
            }
            outcomes = sweep(runs, options.out / data / group, jobs=options.jobs, on_done=lambda name, outcome: None)
            by_method = {
                method: [outcomes[f"{method}, seed {seed}"] for seed in range(options.seeds)] for method in methods
            }
            console.print(table(f"{group}, {data}, {nets[group]['epochs']} epochs, {options.seeds} seeds", by_method))


def _settings(data: str, folder: Path | None, fields: Fields, seed: int) -> Settings:
    source: Fields = {"data": "digits"} if data == "digits" else {"data": "mnist", "folder": folder}
    return Settings(**source, **fields, seed=seed)


def table(title: str, by_method: dict[str, list[Outcome]]) -> Table:
    """Return a table of means, standard deviations and the distance to the method that each is compared with."""
    result = Table(title=title)
    for header in ("net", "accuracy", "± sd", "lowest to highest", "points to float", "points to its baseline"):
        result.add_column(header, justify="left" if header == "net" else "right")
    accuracies = {method: [100 * o.accuracy for o in outcomes] for method, outcomes in by_method.items()}
    means = {method: statistics.mean(values) for method, values in accuracies.items()}
    for method, values in accuracies.items():
        baseline = BASELINES.get(method)
        result.add_row(
            method,
            f"{means[method]:.2f} %",
            f"{statistics.stdev(values):.2f}" if len(values) > 1 else "",
            f"{min(values):.2f} to {max(values):.2f}",
            f"{means[method] - means['float']:+.2f}",
            "" if baseline is None else f"{means[method] - means[baseline]:+.2f} ({baseline})",
        )
    return result


if __name__ == "__main__":
    run(main, Options)
