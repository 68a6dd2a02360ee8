"""What the examples share: a task, trained in float and low-bit, deployed whole, and a table of the nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, PackedModel
from bitorch.commands.packed_benchmark import using_threads
from bitorch.commands.timing import seconds_per_call

_ROUNDS = 9
#: A net, trained or packed.
Net = Callable[[Tensor], Tensor]
#: Makes inputs and targets of so many examples.
Make = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Budget:
    """How long an example trains, and on how much it is measured."""

    steps: int = 200
    """Of the float net from scratch, and of the low-bit net that begins with its weights."""
    batch: int = 16
    """Examples of a step; each is new."""
    test: int = 128
    """Examples that the figures are of."""
    lr: float = 4e-3
    """Of Adam; it falls to 0 with a cosine."""
    seed: int = 0
    """Of weights and examples."""


@dataclass(frozen=True)
class Task:
    """What is learned.

    Attributes:
        make: inputs and targets to train on.
        test: those that the figures are of.
        loss: of results and targets.
        metric: the name of what `score` gives, as the table shows it.
        score: of results and targets of all test examples.
    """

    make: Make
    test: Make
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: str
    score: Callable[[Tensor, Tensor], str]


@dataclass(frozen=True)
class Outcome:
    """What became of an example.

    Attributes:
        packed: the file's net, equal to the low-bit net on all test examples, see `bitorch.verify`.
        scores: of the float net, the low-bit net and the packed one.
    """

    packed: PackedModel
    scores: tuple[str, str, str]


def train(model: nn.Module, task: Task, budget: Budget) -> nn.Module:
    """Train a net on examples that are new in each step, and return it in eval mode."""
    generator = torch.Generator().manual_seed(budget.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=budget.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    model.train()
    for _ in range(budget.steps):
        x, target = task.make(budget.batch, generator)
        optimizer.zero_grad()
        task.loss(model(x), target).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def learn(
    build: Callable[[], nn.Module], task: Task, config: LowBitConfig, budget: Budget
) -> tuple[nn.Module, nn.Module]:
    """Train a net in float, and a low-bit one that begins with its weights.

    Args:
        config: where its ranges are calibrated or learned, they begin with what 256 examples bring.
    """
    torch.manual_seed(budget.seed)
    floats = train(build(), task, budget)
    low_bit = build()
    low_bit.load_state_dict(floats.state_dict())
    bitorch.quantize_(low_bit, config)
    if config.range != "unit":
        x, _ = task.make(256, torch.Generator().manual_seed(budget.seed + 2))
        bitorch.calibrate(low_bit, x.split(32))
    return floats, train(low_bit, task, budget)


def check(low_bit: nn.Module, packed: PackedModel, x: Tensor) -> str:
    """Compare every tensor of the packed net with the trained net's, and say how many numbers are equal.

    Raises:
        ValueError: one is not.
    """
    verification = bitorch.verify(low_bit, packed, x)
    if verification.first_difference is not None:
        raise ValueError(f"the packed net is not the trained one: {verification}")
    return f"verified on {len(x)} examples: {str(verification).splitlines()[0]}"


def nets_of(floats: nn.Module, low_bit: nn.Module, packed: PackedModel, config: LowBitConfig) -> dict[str, Net]:
    """Return the three nets that a table compares, by name."""
    bits = f"W{config.weight_bits}A{config.activation_bits}"
    return {
        "float, PyTorch": _inferred(floats),
        f"{bits}, PyTorch": _inferred(low_bit),
        f"{bits}, packed": lambda x: _only(packed(x)),
    }


def bytes_of(nets: dict[str, Net], floats: nn.Module, packed: PackedModel) -> dict[str, int]:
    """Bytes of the state dict of a PyTorch net, which is as large in training with few bits, and of the packed file."""
    stored = sum(tensor.nbytes for tensor in floats.state_dict().values())
    return dict(zip(nets, (stored, stored, packed.nbytes), strict=True))


def seconds_of(nets: dict[str, Net], one: Tensor) -> dict[str, float]:
    """How long each net takes for one input, on one thread."""
    with using_threads(1):
        return seconds_per_call({name: _call(net, one) for name, net in nets.items()}, _ROUNDS)


def table_of(title: str, task: Task, scores: dict[str, str], sizes: dict[str, int], seconds: dict[str, float]) -> Table:
    """Return a table of the nets that the scores, bytes and seconds are of."""
    table = Table(title=title)
    for header in ("net", task.metric, "bytes", "ms", "speed"):
        table.add_column(header, justify="left" if header == "net" else "right")
    first = next(iter(seconds.values()))
    for name, score in scores.items():
        cells = (f"{sizes[name]:,}", f"{1e3 * seconds[name]:.3f}", f"{first / seconds[name]:.3g}×")
        table.add_row(name, score, *cells)
    return table


def run_example(
    build: Callable[[], nn.Module],
    task: Task,
    config: LowBitConfig,
    budget: Budget,
    out: Path | None,
    console: Console,
) -> Outcome:
    """Train a net in float, then low-bit, deploy it whole, verify it on the test examples, and print all of it.

    Args:
        config: of the low-bit net.
        out: where the packed file goes; None: nowhere.

    Raises:
        ValueError: a tensor of the packed net is not the trained net's.
    """
    x, target = task.test(budget.test, torch.Generator().manual_seed(budget.seed + 1))
    floats, low_bit = learn(build, task, config, budget)
    packed = bitorch.deploy(low_bit, x[:2])
    verified = check(low_bit, packed, x)
    if out is not None:
        packed.save(out)
    nets = nets_of(floats, low_bit, packed, config)
    scores = {name: task.score(net(x), target) for name, net in nets.items()}
    sizes, seconds = bytes_of(nets, floats, packed), seconds_of(nets, x[:1])
    console.print(table_of("one example at a time, one thread", task, scores, sizes, seconds))
    console.print(verified, highlight=False)
    float_score, low_bit_score, packed_score = scores.values()
    return Outcome(packed, (float_score, low_bit_score, packed_score))


def _inferred(model: nn.Module) -> Net:
    def net(x: Tensor) -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(x)
        return result

    return net


def _only(results: Tensor | dict[str, Tensor]) -> Tensor:
    assert isinstance(results, Tensor)  # the nets of the examples return one
    return results


def _call(net: Net, x: Tensor) -> Callable[[], object]:
    return lambda: net(x)


def uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers between low and high, by a generator."""
    return low + (high - low) * torch.rand(shape, generator=generator)
