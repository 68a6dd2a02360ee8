"""The bits of the DoReFa paper's table 1, trained on Fashion-MNIST: does the order of the rows hold?

The paper trains on SVHN, for 200 epochs, with nets of four widths. Here it is another data set, a smaller net and a few
epochs, so the numbers differ; what is compared is the order. The command can be stopped and called again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import MultipleLocator, PercentFormatter
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from bitorch.atomic_file import write_and_rename
from bitorch.train import Settings
from bitorch.train.sweep import Outcome, sweep
from literature import TABLE1, Bits
from recipe import run

PAPER_NETS = "ABCD"
_CHANNELS = ("all channels", "½ of them", "¼", "⅛")
#: Inches of the picture: a page shows it 830 pixels wide, at 100 an inch, and screens may have twice as many.
_SIZE, _DPI = (8.3, 5), 200


@dataclass(frozen=True)
class Options:
    """Train the rows of the paper's table 1 on Fashion-MNIST."""

    folder: Path
    """Folder with the four IDX files of Fashion-MNIST."""
    out: Path = Path("runs/fashion-mnist-grid")
    """Folder of the runs and of the picture. Runs that are done there are not trained again; interrupted ones go on."""
    epochs: int = 3
    """Passes over the training images."""
    width: float = 0.5
    """Factor on the channels of LeNet28."""
    seed: int = 0
    """Of all runs."""
    jobs: int = 2
    """Runs to train at the same time, each with its share of the cores."""


def main(options: Options) -> None:
    console = Console()
    rows = {row_name(bits): bits for bits in TABLE1}
    runs = {
        name: Settings(
            data="mnist",
            folder=options.folder,
            model="lenet-28",
            width=options.width,
            bits=bits,
            epochs=options.epochs,
            batch_size=128,
            lr=2e-3,
            flip=True,
            seed=options.seed,
        )
        for name, bits in rows.items()
    }

    def on_done(name: str, outcome: Outcome) -> None:
        console.print(f"{name}: {outcome.accuracy:.2%}")

    outcomes = sweep(runs, options.out, jobs=options.jobs, on_done=on_done)
    ours = {bits: outcomes[name].accuracy for name, bits in rows.items()}
    console.print(table(ours))
    for net in PAPER_NETS:
        console.print(f"rank correlation with the paper's net {net}: {rank_correlation(ours, net):.2f}")
    picture = options.out / "grid.png"
    draw(ours, picture)
    console.print(f"picture: {picture}")


def row_name(bits: Bits) -> str:
    return "W{}A{}G{}".format(*bits)


def paper(bits: Bits, net: str) -> float | None:
    accuracies: tuple[float | None, ...] = TABLE1[bits]
    return accuracies[PAPER_NETS.index(net)]


def rank_correlation(ours: dict[Bits, float], net: str) -> float:
    """Return Spearman's rank correlation over the rows that the paper has for that net."""
    rows = [(accuracy, paper(bits, net)) for bits, accuracy in ours.items() if paper(bits, net) is not None]
    return float(spearmanr([row[0] for row in rows], [row[1] for row in rows]).statistic)


def table(ours: dict[Bits, float]) -> Table:
    result = Table(title="accuracy by bits: Fashion-MNIST here, SVHN in the paper")
    for header in ("W", "A", "G", "here", "points below float", *(f"paper {net}" for net in PAPER_NETS)):
        result.add_column(header, justify="right")
    best = ours[32, 32, 32]
    for bits, accuracy in ours.items():
        theirs = ("–" if value is None else f"{value:.1%}" for value in TABLE1[bits])
        result.add_row(*map(str, bits), f"{accuracy:.2%}", f"{100 * (best - accuracy):.2f}", *theirs)
    return result


def draw(ours: dict[Bits, float], path: Path) -> None:
    """Both columns on axes of their own, as the data sets are not equally hard; a row is one setting of bits."""
    order = sorted(ours, key=ours.__getitem__)
    names = [row_name(bits) for bits in order]
    figure, (left, right) = plt.subplots(1, 2, figsize=_SIZE, layout="constrained", sharey=True)
    left.plot([100 * ours[bits] for bits in order], names, "o", color="tab:blue")
    left.set_xlabel("accuracy on Fashion-MNIST")
    left.set_title("here")
    for net, channels, marker in zip(PAPER_NETS, _CHANNELS, "osD^", strict=True):
        points = [(100 * value, name) for bits, name in zip(order, names, strict=True) if (value := paper(bits, net))]
        label = f"net {net}: {channels}"
        right.plot([p[0] for p in points], [p[1] for p in points], marker, label=label, alpha=0.8)
    right.set_xlabel("accuracy on SVHN")
    right.set_title("the paper's table 1")
    figure.legend(loc="outside lower center", ncols=len(PAPER_NETS), frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter(PercentFormatter(symbol=" %", decimals=0))
        axes.xaxis.set_major_locator(MultipleLocator(5))
    write_and_rename(path, lambda file: figure.savefig(file, format="png", dpi=_DPI))
    plt.close(figure)


if __name__ == "__main__":
    run(main, Options)
