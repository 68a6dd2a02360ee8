"""A DLRM that tells who clicks, in float and with low-bit tables and MLPs, deployed whole.

python recipes/dlrm.py --out clicks.bit.safetensors
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

import bitorch
from bitorch import LowBitConfig, PackedModel
from bitorch.commands.packed_benchmark import using_threads
from bitorch.commands.timing import seconds_per_call
from bitorch.data import Clicks, read_criteo
from bitorch.models import DLRM, SingleIndexDLRM
from dlrm_clicks import CATEGORICAL, DENSE, habits, write_clicks
from recipe import run

#: Examples that ranges are calibrated with, and the size of each of their batches.
_CALIBRATION, _PART = 1024, 128
_ROUNDS = 9


@dataclass(frozen=True)
class Budget:
    """How long both nets train, and on how much."""

    examples: int = 30_000
    """Lines of the file to train on."""
    test: int = 10_000
    """Lines of another one, that the figures are of."""
    epochs: int = 2
    batch: int = 128
    lr: float = 1e-2
    """Of Adam; it falls to 0 with a cosine."""
    seed: int = 0
    """Of clicks, weights and the order of examples."""


@dataclass(frozen=True)
class Options:
    """Train a DLRM on clicks in Criteo's format, in float and low-bit, deploy it whole, and compare."""

    weight_bits: int = 2
    """Of tables and MLPs."""
    activation_bits: int = 4
    data: Path | None = None
    """A file of Criteo's to train on, in place of clicks that are made up; its last lines are tested on."""
    table_size: int = 32
    """Rows of each table, which words are hashed into."""
    dimension: int = 8
    """Of a row."""
    out: Path | None = None
    """Where the packed file goes."""
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        packed: the file's net.
        aucs, losses: of the float net, the low-bit net and the packed one.
        least: the log loss of who knows the true odds; None of a file of one's own.
    """

    packed: PackedModel
    aucs: tuple[float, ...]
    losses: tuple[float, ...]
    least: float | None


def load(options: Options, folder: Path) -> tuple[Clicks, Clicks, float | None]:
    """Return clicks to train on, clicks to test on, and the least log loss of these where it is known."""
    budget = options.budget
    if options.data is not None:
        clicks = read_criteo(options.data, options.table_size, most=budget.examples + budget.test)
        return clicks[: -budget.test], clicks[-budget.test :], None
    known = habits(budget.seed)
    write_clicks(folder / "train.txt", budget.examples, 2 * budget.seed + 1, known)
    least = write_clicks(folder / "test.txt", budget.test, 2 * budget.seed + 2, known)
    train, test = (read_criteo(folder / f"{name}.txt", options.table_size) for name in ("train", "test"))
    return train, test, least


def fit(net: DLRM, clicks: Clicks, budget: Budget) -> DLRM:
    """Train a net, and return it in eval mode."""
    generator = torch.Generator().manual_seed(budget.seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=budget.lr)
    steps = budget.epochs * (len(clicks) // budget.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(budget.epochs):
        order = torch.randperm(len(clicks), generator=generator)
        for chosen in order.split(budget.batch)[: len(clicks) // budget.batch]:
            batch = clicks[chosen]
            optimizer.zero_grad()
            chance = net(batch.dense, batch.bags()).squeeze(1)
            F.binary_cross_entropy(chance, batch.labels).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def low_bit_of(floats: DLRM, options: Options, clicks: Clicks) -> DLRM:
    """Return a net that begins with the float one's weights, its tables and MLPs low-bit but for the last layer."""
    net = copy.deepcopy(floats)
    config = LowBitConfig(
        options.weight_bits, options.activation_bits, range="learned", learned_by="lsq+", first="same"
    )
    bitorch.quantize_(net, config)
    few = clicks[:_CALIBRATION]
    batches = [(inputs(few[slice(at, at + _PART)]), few.labels[at : at + _PART]) for at in range(0, len(few), _PART)]
    bitorch.calibrate(SingleIndexDLRM(net), batches)
    return net


def inputs(clicks: Clicks) -> tuple[Tensor, ...]:
    """Clicks as `SingleIndexDLRM` takes them: dense features, and [batch, 1] indices of each categorical one."""
    return clicks.dense, *clicks.indices.split(1, dim=1)


def main(options: Options, console: Console | None = None) -> Outcome:
    """Train both nets, deploy the low-bit one, verify it on all test examples, and print what they are worth."""
    console = Console() if console is None else console
    with tempfile.TemporaryDirectory() as folder:
        train, test, least = load(options, Path(folder))
    torch.manual_seed(options.budget.seed)
    built = DLRM(
        DENSE,
        [options.table_size] * CATEGORICAL,
        bottom_mlp_layer_sizes=(64, 32),
        top_mlp_layer_sizes=(128, 64, 1),
        binary_top_mlp=False,
        binary_embedding=False,
        embedding_dimension=options.dimension,
    )
    floats = fit(built, train, options.budget)
    low_bit = fit(low_bit_of(floats, options, train), train, options.budget)
    net, x = SingleIndexDLRM(low_bit).eval(), inputs(test)
    packed = bitorch.deploy(net, *(one[:2] for one in x))
    verification = bitorch.verify(net, packed, *x)
    if verification.first_difference is not None:
        raise ValueError(f"the packed net is not the trained one: {verification}")
    if options.out is not None:
        packed.save(options.out)
    chances = {
        "float, PyTorch": _chances(SingleIndexDLRM(floats).eval(), x),
        f"W{options.weight_bits}A{options.activation_bits}, PyTorch": _chances(net, x),
        f"W{options.weight_bits}A{options.activation_bits}, packed": _only(packed(*x)).squeeze(1),
    }
    from torchmetrics.functional.classification import binary_auroc  # behind bitorch.train, which lets it be imported

    aucs = {name: float(binary_auroc(chance, test.labels.int())) for name, chance in chances.items()}
    losses = {name: float(F.binary_cross_entropy(chance, test.labels)) for name, chance in chances.items()}
    seconds = _seconds(dict(zip(chances, (SingleIndexDLRM(floats).eval(), net, packed), strict=True)), test[:1])
    stored = sum(parameter.nbytes for parameter in floats.state_dict().values())
    sizes = dict(zip(chances, (stored, stored, packed.nbytes), strict=True))
    console.print(_table(aucs, losses, sizes, seconds))
    if least is not None:
        console.print(f"log loss of who knows the true odds: {least:.4f}", highlight=False)
    console.print(f"verified on {len(test)} examples: {str(verification).splitlines()[0]}", highlight=False)
    return Outcome(packed, tuple(aucs.values()), tuple(losses.values()), least)


def _chances(net: SingleIndexDLRM, x: tuple[Tensor, ...]) -> Tensor:
    with torch.inference_mode():
        chances: Tensor = net(*x)
    return chances.squeeze(1)


def _only(results: Tensor | dict[str, Tensor]) -> Tensor:
    assert isinstance(results, Tensor)  # there is one
    return results


def _seconds(nets: dict[str, Callable[..., object]], one: Clicks) -> dict[str, float]:
    """How long each net takes for one example, on one thread."""

    def call(net: Callable[..., object]) -> Callable[[], object]:
        def run_once() -> object:
            with torch.inference_mode():
                return net(*inputs(one))

        return run_once

    with using_threads(1):
        return seconds_per_call({name: call(net) for name, net in nets.items()}, _ROUNDS)


def _table(aucs: dict[str, float], losses: dict[str, float], sizes: dict[str, int], seconds: dict[str, float]) -> Table:
    table = Table(title="one example at a time, one thread")
    for header in ("net", "AUC", "log loss", "bytes", "ms", "speed"):
        table.add_column(header, justify="left" if header == "net" else "right")
    first = next(iter(seconds.values()))
    for name, auc in aucs.items():
        cells = (f"{auc:.4f}", f"{losses[name]:.4f}", f"{sizes[name]:,}", f"{1e3 * seconds[name]:.3f}")
        table.add_row(name, *cells, f"{first / seconds[name]:.3g}×")
    return table


def _main(options: Options) -> None:
    main(options)


if __name__ == "__main__":
    run(_main, Options)
