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
        make: inputs and targets.
        loss: of results and targets.
        metric: the name of what `score` gives, as the table shows it.
        score: of results and targets of all test examples.
    """

    make: Make
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


def run_example(
    build: Callable[[], nn.Module],
    task: Task,
    bits: tuple[int, int],
    budget: Budget,
    out: Path | None,
    console: Console,
) -> Outcome:
    """Train a net in float, then low-bit, deploy it whole, verify it on the test examples, and print all of it.

    Args:
        bits: of weights and of activations.
        out: where the packed file goes; None: nowhere.

    Raises:
        ValueError: a tensor of the packed net is not the trained net's.
    """
    torch.manual_seed(budget.seed)
    x, target = task.make(budget.test, torch.Generator().manual_seed(budget.seed + 1))
    floats = train(build(), task, budget)
    low_bit = build()
    low_bit.load_state_dict(floats.state_dict())
    bitorch.quantize_(low_bit, LowBitConfig(weight_bits=bits[0], activation_bits=bits[1]))
    train(low_bit, task, budget)
    packed = bitorch.deploy(low_bit, x[:2])
    verification = bitorch.verify(low_bit, packed, x)
    if verification.first_difference is not None:
        raise ValueError(f"the packed net is not the trained one: {verification}")
    if out is not None:
        packed.save(out)
    nets: dict[str, Net] = {
        "float, PyTorch": _inferred(floats),
        f"W{bits[0]}A{bits[1]}, PyTorch": _inferred(low_bit),
        f"W{bits[0]}A{bits[1]}, packed": lambda images: _only(packed(images)),
    }
    scores = {name: task.score(net(x), target) for name, net in nets.items()}
    stored = sum(tensor.nbytes for tensor in floats.state_dict().values())
    sizes = dict(zip(nets, (stored, stored, packed.nbytes), strict=True))
    console.print(_table(task, nets, scores, sizes, x[:1]))
    console.print(f"verified on {len(x)} examples: {str(verification).splitlines()[0]}", highlight=False)
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


def _table(task: Task, nets: dict[str, Net], scores: dict[str, str], sizes: dict[str, int], one: Tensor) -> Table:
    table = Table(title="one example at a time, one thread")
    for header in ("net", task.metric, "bytes", "ms", "speed"):
        table.add_column(header, justify="left" if header == "net" else "right")
    with using_threads(1):
        seconds = seconds_per_call({name: _call(net, one) for name, net in nets.items()}, _ROUNDS)
    first = next(iter(seconds.values()))
    for name in nets:
        cells = (f"{sizes[name]:,}", f"{1e3 * seconds[name]:.3f}", f"{first / seconds[name]:.3g}×")
        table.add_row(name, scores[name], *cells)
    return table


def _call(net: Net, x: Tensor) -> Callable[[], object]:
    return lambda: net(x)


def uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers between low and high, by a generator."""
    return low + (high - low) * torch.rand(shape, generator=generator)
