"""Whether the costs that kernels state choose well: for each convolution of the networks, the kernel and the layout of
codes that a program takes by its costs, beside the fastest one there is, measured on this CPU.

Every kernel that can compute a layer is timed as `bitorch_runtime.load(path, tune=True)` does it, several times, and
the least counts: what else runs on the machine only ever adds, and often for seconds, so that all networks come in
turn. Layers that are alike count once. What it takes to bring codes from one layout to the other is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

import bitorch_runtime
from bitorch_runtime import tuning
from layers_cases import Bits
from networks_deployed import deployed
from networks_models import NETS

LAYOUTS = ("planes", "bytes")
CLOSE, NEAR = 1.05, 1.2
UNWANTED = 1e6
"""Times the measured time of a layout that a program shall not take."""

Times = Mapping[tuple[str, str], float]
"""Nanoseconds of an image by layout and kernel."""


@dataclass(frozen=True)
class Options:
    """Compare the kernels that costs choose with the fastest ones."""

    nets: tuple[str, ...] = NETS
    bits: tuple[str, ...] = ("W1A2", "W2A2", "W4A4", "W8A8")
    """Bits of weights and activations between the first and the last layer."""
    files: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILES")] = ()
    """Packed networks to look at instead."""
    rounds: int = 3
    """How often each kernel is timed."""
    worst: int = 15
    """How many layers to list."""

    def check(self) -> None:
        """
        Raises:
            ValueError: a name or a number is not valid.
        """
        if min(self.rounds, self.worst) < 1:
            raise ValueError("--rounds and --worst must be at least 1")
        for net in self.nets:
            if net not in NETS:
                raise ValueError(f"--nets: there is no {net!r}, but {', '.join(NETS)}")
        for name in self.bits:
            Bits.parse(name)


@dataclass(frozen=True)
class Choice:
    """A layer, what its costs choose, and what it could have had."""

    layer: str
    chosen: tuple[str, str]
    times: Times

    @property
    def best(self) -> tuple[str, str]:
        return min(self.times, key=lambda kernel: self.times[kernel])

    @property
    def lost(self) -> float:
        """Nanoseconds."""
        return self.times[self.chosen] - self.times[self.best]

    @property
    def ratio(self) -> float:
        return self.times[self.chosen] / self.times[self.best]


def main(options: Options) -> None:
    options.check()
    console = Console(width=None if sys.stdout.isatty() else 160)
    cpu = bitorch_runtime.cpu()
    console.print(f"CPU: {cpu['name']}\nkernels: {cpu['kernel']} ({cpu['reason']})", highlight=False)
    packed = options.files or [deployed(net, Bits.parse(bits)) for net in options.nets for bits in options.bits]
    distinct: dict[frozenset[tuple[tuple[str, str], float]], Choice] = {}
    with tempfile.TemporaryDirectory() as folder:
        times = least_times(packed, Path(folder), options.rounds)
        for path in packed:
            for choice in choices(path, Path(folder), times):
                distinct.setdefault(frozenset(choice.times.items()), choice)
    for line in summary(list(distinct.values())):
        console.print(line, highlight=False)
    console.print(worst_table(list(distinct.values()), options.worst))


def choices(path: Path, folder: Path, times: Mapping[str, float]) -> Iterator[Choice]:
    """The layers of a packed network for which there is more than one kernel."""
    found: dict[int, dict[tuple[str, str], float]] = {}
    for layout in LAYOUTS:
        wanted = {key: time if f" {layout}" in key else time * UNWANTED for key, time in times.items()}
        for index, (read, operation) in enumerate(_read_by(_tuned(path, folder / f"{path.name}-{layout}", wanted))):
            if read == layout:
                measured = [choice for choice in operation["choices"] if choice["measured"]]
                each = {(layout, choice["kernel"]): choice["nanoseconds"] for choice in measured}
                found.setdefault(index, {}).update(each)
    for index, (read, operation) in enumerate(_read_by(bitorch_runtime.load(path))):
        kernels = found.get(index, {})
        if len(kernels) > 1 and (read, operation["kernel"]) in kernels:
            output = operation["outputs"][0]
            layer = f"{path.name.split('.')[0]} {output['name']} {'×'.join(map(str, output['shape']))}"
            yield Choice(layer, (read, operation["kernel"]), kernels)


def _read_by(model: bitorch_runtime.Model) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each operation, and the layout of its first input."""
    layouts: dict[str, str] = {}
    for operation in model.operations():
        layouts.update({output["name"]: output["layout"] for output in operation["outputs"]})
        yield layouts[operation["inputs"][0]] if operation["inputs"] else "", operation


def least_times(paths: Sequence[Path], folder: Path, rounds: int) -> dict[str, float]:
    """The least nanoseconds that each kernel took for each layer, by the keys of `tuning.times_file()`."""
    least: dict[str, float] = {}
    for round_ in range(rounds):
        for path in paths:
            _tuned(path, folder / f"{path.name}-{round_}", {})
            for key, time in tuning.known_times().items():
                least[key] = min(time, least.get(key, time))
    return least


def _tuned(path: Path, cache: Path, times: Mapping[str, float]) -> bitorch_runtime.Model:
    """The network, tuned with times kept in a folder of their own, which is the one in use from then on."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    tuning.keep_times(times)
    return bitorch_runtime.load(path, tune=True)


def summary(found: list[Choice]) -> Iterator[str]:
    def share(most: float) -> str:
        return f"{sum(choice.ratio <= most for choice in found) / len(found):.1%} within {most - 1:.0%}"

    lost, least = sum(choice.lost for choice in found), sum(choice.times[choice.best] for choice in found)
    yield f"{len(found)} layers: the costs choose the fastest kernel, or one {share(CLOSE)} of it, {share(NEAR)}"
    yield f"they take {lost / least:.1%} longer in all than with the fastest"


def worst_table(found: list[Choice], count: int) -> Table:
    table = Table(title="What the costs lose most by")
    for column in ("layer", "chosen", "µs", "fastest", "µs", "×"):
        table.add_column(column, justify="right" if column in ("µs", "×") else "left")
    for choice in sorted(found, key=lambda choice: choice.lost, reverse=True)[:count]:
        best = choice.best
        times = [f"{choice.times[kernel] / 1e3:.2f}" for kernel in (choice.chosen, best)]
        kernels = [f"{kernel} ({layout})" for layout, kernel in (choice.chosen, best)]
        table.add_row(choice.layer, kernels[0], times[0], kernels[1], times[1], f"{choice.ratio:.2f}")
    return table


if __name__ == "__main__":
    main(tyro.cli(Options))
