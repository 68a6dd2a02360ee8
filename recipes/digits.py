"""Digits: the float net beside its twin of 1-bit weights, 2-bit activations and 6-bit gradients. `make demo` runs this.

Trains both nets with three seeds, prints one table and writes two pictures. Then the low-bit net becomes a packed file,
and a second table shows what that gains.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bitorch import quantize_
from bitorch.atomic_file import write_and_rename
from bitorch.models import build
from bitorch.plots import plot_curves, plot_gradient_levels, plot_staircase
from bitorch.quantizations import GradientDoReFa, InputDoReFa, WeightDoReFa
from bitorch.reporting.weight_bytes import WeightBytes, weight_bytes
from bitorch.train import Settings
from bitorch.train.sweep import Outcome, sweep
from digits_deployed import deploy_and_compare
from recipe import run

#: Inches of a picture: a page shows it 830 pixels wide, at 100 an inch, and screens may have twice as many.
_SIZE, _DPI = (8.3, 3.4), 200
NETS: dict[str, tuple[int, int, int]] = {"float": (32, 32, 32), "W1A2G6": (1, 2, 6)}


@dataclass(frozen=True)
class Options:
    """Train the float net and the W1A2G6 net on digits, with several seeds."""

    out: Path = Path("runs/digits")
    """Folder of the runs and of the pictures. Runs that are done there are not trained again."""
    epochs: int = 30
    """Passes over the training images."""
    seeds: int = 3
    """Trainings of each net."""


def main(options: Options) -> None:
    console = Console()
    runs = {
        f"{net}-seed{seed}": Settings(bits=bits, epochs=options.epochs, seed=seed, shift=1)
        for seed in range(options.seeds)
        for net, bits in NETS.items()
    }
    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        tasks = {name: progress.add_task(name, total=options.epochs, accuracy="") for name in runs}

        def on_epoch(name: str, row: dict[str, float]) -> None:
            progress.update(tasks[name], completed=row["epoch"], accuracy=f"accuracy {row['val/acc']:.1%}")

        def on_done(name: str, outcome: Outcome) -> None:
            on_epoch(name, outcome.history[-1])

        outcomes = sweep(runs, options.out, on_epoch=on_epoch, on_done=on_done)
    by_net = {net: [outcomes[name] for name in runs if name.startswith(net)] for net in NETS}
    console.print(table(by_net))
    pictures = options.out / "digits.png", options.out / "quantizers.png"
    draw_accuracy(by_net, pictures[0])
    draw_quantizers(pictures[1])
    console.print(f"pictures: {pictures[0]}, {pictures[1]}\n")
    float_best, low_bit_best = (options.out / f"{net}-seed0" / "best.ckpt" for net in NETS)
    if not deploy_and_compare(float_best, low_bit_best, options.out / "digits.bit.safetensors", console):
        sys.exit(1)


def net_bytes(bits: tuple[int, int, int]) -> WeightBytes:
    settings = Settings(bits=bits)
    model = build(settings.model, in_channels=1, num_classes=10)
    quantize_(model, settings.config)
    return weight_bytes(model)


def table(by_net: dict[str, list[Outcome]]) -> Table:
    result = Table(title="digits, 360 test images")
    for header in ("net", "accuracy, mean (lowest to highest)", "time per step", "bytes of weights"):
        result.add_column(header, justify="left" if header == "net" else "right")
    seconds = {net: _seconds_per_step(outcomes) for net, outcomes in by_net.items()}
    for net, outcomes in by_net.items():
        accuracies = [outcome.accuracy for outcome in outcomes]
        result.add_row(
            net,
            f"{statistics.mean(accuracies):.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})",
            f"{seconds[net] / seconds['float']:.2f}×",
            f"{net_bytes(NETS[net]).packed:,}",
        )
    return result


def _seconds_per_step(outcomes: list[Outcome]) -> float:
    return statistics.median(row["seconds_per_step"] for outcome in outcomes for row in outcome.history)


def draw_accuracy(by_net: dict[str, list[Outcome]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    histories = {net: [outcome.history for outcome in outcomes] for net, outcomes in by_net.items()}
    plot_curves(axes, histories, "val/acc", percent=True)
    axes.set_ylim(0.8, 1)
    seeds = len(by_net["float"])
    axes.set_title(f"digits: accuracy on 360 test images, {seeds} training{'s' if seeds > 1 else ''} each")
    axes.set_ylabel("accuracy, mean and range")
    _save(figure, path)


def draw_quantizers(path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=_SIZE, layout="constrained")
    plot_staircase(axes[0], WeightDoReFa(1, variant="paper"))
    axes[0].set_title("1-bit weights: ±mean(|w|)")
    axes[0].set_xlabel("weight")
    plot_staircase(axes[1], InputDoReFa(2, variant="paper"))
    axes[1].set_title("2-bit activations")
    axes[1].set_xlabel("activation")
    plot_gradient_levels(axes[2], GradientDoReFa(3))
    axes[2].set_title("3-bit gradients, with noise")
    for each in axes:
        # Room for the legend above what is drawn.
        low, high = each.get_ylim()
        each.set_ylim(low, high + 0.35 * (high - low))
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    write_and_rename(path, lambda file: figure.savefig(file, format="png", dpi=_DPI))
    plt.close(figure)


if __name__ == "__main__":
    run(main, Options)
