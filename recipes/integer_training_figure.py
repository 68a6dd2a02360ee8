"""The picture of integer_training.py: losses on floats and on integers, and accuracies over the time they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from bitorch.atomic_file import write_and_rename
from integer_training_runs import Run
from integer_training_table import Runs, simulated_twin

#: Inches of a panel: a page shows three of them 830 pixels wide, at 100 an inch, and screens may have twice as many.
_SIZE, _DPI = (2.77, 2.6), 200
#: How many numbers a curve of losses has at most; each is the mean of steps that follow each other.
_POINTS = 60


def draw(path: Path, by_data: Mapping[str, Runs]) -> None:
    """Draw a row for each data set: losses for each choice of bits, and accuracies over seconds of training."""
    pairs = {name: twin for runs in by_data.values() for name in runs if (twin := simulated_twin(name)) is not None}
    pairs = {name: twin for name, twin in pairs.items() if not name.endswith("fused")}
    columns = len(pairs) + 1
    figure, rows = plt.subplots(
        len(by_data),
        columns,
        figsize=(_SIZE[0] * columns, _SIZE[1] * len(by_data)),
        layout="constrained",
        squeeze=False,
    )
    for row, (data, runs) in zip(rows, by_data.items(), strict=True):
        for axes, (name, twin) in zip(row, pairs.items(), strict=False):
            draw_losses(axes, {each: runs[each] for each in (twin, name)})
            axes.set_title(f"{data}, {name.partition(', ')[0]}", fontsize="medium")
            axes.set_ylabel("loss")
        draw_accuracies(row[-1], {name: of_seeds for name, of_seeds in runs.items() if "simulated" not in name})
        row[-1].set_title(data, fontsize="medium")
        row[-1].set_ylabel("accuracy")
    write_and_rename(path, lambda file: figure.savefig(file, format="png", dpi=_DPI))
    plt.close(figure)


def draw_losses(axes: Axes, runs: Runs) -> None:
    """Draw the mean of the losses over the seeds, and the range of them, for each way."""
    for (name, of_seeds), style in zip(runs.items(), ("-", "--"), strict=True):
        losses = torch.tensor([run.losses for run in of_seeds])  # [seeds, steps]
        width = -(-losses.shape[1] // _POINTS)
        smooth = losses[:, : losses.shape[1] // width * width].unflatten(1, (-1, width)).mean(2)
        steps = [width * (index + 0.5) for index in range(smooth.shape[1])]
        (line,) = axes.plot(steps, smooth.mean(0).tolist(), style, linewidth=1.5, label=name.partition(", ")[2])
        axes.fill_between(steps, smooth.amin(0).tolist(), smooth.amax(0).tolist(), alpha=0.2, color=line.get_color())
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", frameon=False, fontsize="small")


def draw_accuracies(axes: Axes, runs: Runs) -> None:
    """Draw the mean accuracy over the seeds after each epoch, and the range, over the mean seconds of training."""
    for name, of_seeds in runs.items():
        accuracies = torch.tensor([run.accuracies for run in of_seeds])  # [seeds, epochs]
        seconds = _elapsed(of_seeds)
        (line,) = axes.plot(seconds, accuracies.mean(0).tolist(), ".-", linewidth=1.5, label=name)
        low, high = accuracies.amin(0).tolist(), accuracies.amax(0).tolist()
        axes.fill_between(seconds, low, high, alpha=0.2, color=line.get_color())
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("seconds of training")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False, fontsize="x-small", handlelength=1.2)


def _elapsed(runs: Sequence[Run]) -> list[float]:
    seconds: list[float] = torch.tensor([run.seconds for run in runs]).cumsum(1).mean(0).tolist()
    return seconds
