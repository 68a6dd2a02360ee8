"""A small GPT on few bits, trained from scratch on Python's standard library, deployed, and set beside the float one.

    python recipes/gpt.py --methods float bitnet
    python recipes/gpt.py --methods float bitnet w1a8 w2a8 w4 w4a8 --seeds 5 --folder runs/gpt
    python recipes/gpt.py --methods float w2a8 --training.width 256 --training.layers 6 --training.steps 5000

Prints the perplexity of files that were never trained on, the bytes of the packed file, how many tokens a second one
and two threads read and generate, and the memory of a process that runs the net. It needs the package tokenizers. The
embedding and the head are one table, of 8 bits where the layers between them have few.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import bitorch_runtime
from gpt_measure import Measured, measure_float, measure_packed
from gpt_net import GPT
from gpt_text import Corpus, corpus
from gpt_training import Method, Training, trained, windows
from recipe import run


@dataclass(frozen=True)
class Options:
    """Train, deploy and measure a small GPT."""

    methods: tuple[Method, ...] = ("float", "bitnet")
    """bitnet: ternary weights of BitNet b1.58; w1a8, w2a8: weights of 1 or 2 bits (ParetoQ's grid); w4a8: of 4 bits in
    groups of 32; all four with activations of 8 bits, a step for each token. w4: weights of 4 bits in groups of 32
    alone, beside floats. Compared with the first."""
    training: Training = field(default_factory=Training)
    """The net, and how it is trained."""
    seeds: int = 1
    """How often each is trained, with other weights and windows; the first is deployed and measured."""
    threads: tuple[int, ...] = (1, 2)
    """How many the tokens a second are of."""
    folder: Path | None = None
    """Where trained nets are kept, so that the same command goes on where it was."""
    out: Path | None = None
    """Where to write the packed file of the last method."""


@dataclass(frozen=True)
class Outcome:
    """Of one method: the perplexity of each seed, and what is measured of the first."""

    perplexities: list[float]
    measured: Measured

    @property
    def perplexity(self) -> float:
        """The mean."""
        return sum(self.perplexities) / len(self.perplexities)


def outcome_of(method: Method, options: Options, text: Corpus, console: Console) -> Outcome:
    """Train, deploy and measure."""
    found = [trained(method, seed, options.training, text, options.folder, console) for seed in range(options.seeds)]
    model: GPT = found[0][0]
    tokens = windows(text.validation, options.training.context, torch.zeros(1, dtype=torch.int64))[0]
    if method == "float":
        measured = measure_float(model, tokens, options.threads)
    else:
        measured = measure_packed(model, tokens, options.threads, options.out)
    return Outcome([perplexity for _, perplexity in found], measured)


def quality(outcomes: dict[Method, Outcome], options: Options) -> Table:
    """Return the table of perplexities, bytes and memory."""
    seeds = "one seed" if options.seeds == 1 else f"{options.seeds} seeds, the mean (least to most)"
    training = options.training
    table = Table(title=f"width {training.width}, {training.layers} blocks, {training.steps} steps; {seeds}")
    first = outcomes[options.methods[0]]
    for column in ("net", "perplexity", f"of {options.methods[0]}'s", "bytes", "process, MiB"):
        table.add_column(column, justify="left" if column == "net" else "right")
    for method, outcome in outcomes.items():
        cell = f"{outcome.perplexity:.2f}"
        if options.seeds > 1:
            cell += f" ({min(outcome.perplexities):.2f} to {max(outcome.perplexities):.2f})"
        ratio, measured = outcome.perplexity / first.perplexity, outcome.measured
        table.add_row(method, cell, f"{ratio:.1%}", f"{measured.nbytes:,}", f"{measured.memory / 2**20:.0f}")
    return table


def speed(outcomes: dict[Method, Outcome], options: Options) -> Table:
    """Return the table of tokens a second."""
    cpu = bitorch_runtime.cpu()
    table = Table(
        title=f"Tokens a second: windows of {options.training.context}, and one by one with a cache",
        caption=f"{cpu['name']}, kernels {cpu['kernel']}, PyTorch {torch.__version__}",
    )
    table.add_column("net")
    for count in options.threads:
        name = "1 thread" if count == 1 else f"{count} threads"
        table.add_column(f"read, {name}", justify="right")
        table.add_column(f"generated, {name}", justify="right")
    for method, outcome in outcomes.items():
        rates = [outcome.measured.rates[count] for count in options.threads]
        cells = [f"{rate:,.0f}" for both in rates for rate in (both.read, both.generated)]
        table.add_row("float, PyTorch" if method == "float" else f"{method}, packed", *cells)
    return table


def show(options: Options, console: Console) -> dict[Method, Outcome]:
    """Train, deploy, and print both tables."""
    if not options.methods or options.seeds < 1:
        raise ValueError(
            f"there must be a method and a seed at least, got methods={options.methods} and seeds={options.seeds}"
        )
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    text = corpus(options.training.vocabulary, options.training.characters)
    outcomes = {method: outcome_of(method, options, text, console) for method in options.methods}
    console.print(quality(outcomes, options))
    console.print(speed(outcomes, options))
    return outcomes


def main(options: Options) -> None:
    """Show it on the terminal."""
    show(options, Console(width=100))


if __name__ == "__main__":
    run(main, Options)
