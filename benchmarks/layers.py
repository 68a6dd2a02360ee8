"""Single layers: bitorch-runtime at every pair of bit widths, beside PyTorch, ONNX Runtime and OpenVINO.

All run in this process, one sample each in turn, so that a drift of the machine meets all alike. A sample is the
fastest of the calls of about a millisecond; the tables give the median of the samples, and the least. docs/kernels.md
says what is compared with what; `make bench` installs the other engines and writes its tables.
"""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

import bitorch_runtime
from layers_cases import LAYERS, QUICK_BITS, QUICK_LAYERS, Bits, Layer, Problem, bits_of
from layers_engines import ENGINES, Engine, contestants
from layers_ours import Ours
from layers_ours_float import OursFloat
from layers_results import Results, Row, from_json, measured, to_csv, to_json, write
from layers_table import layer_table, markdown
from layers_timing import Contestant, play

# An engine's call of next to nothing: what it takes is subtracted where an engine cannot time a layer from inside.
EMPTY_CONVOLUTION, EMPTY_LINEAR = Layer.parse("3x3-8@5"), Layer.parse("linear-8@1")
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """Measure single layers."""

    layers: tuple[str, ...] = LAYERS
    """Which; any that is written like these will do."""
    bits: tuple[str, ...] = ()
    """Bits of weights and activations, such as W1A2 W1A1± W4A4; left out: 1, 2, 3, 4 and 8 bits of each."""
    engines: tuple[Engine, ...] = ENGINES
    """Who else takes part."""
    threads: int = 1
    """Threads of every engine."""
    rounds: int = 15
    """Samples of each contestant."""
    quick: bool = False
    """Few layers and bits, to see that all is well."""
    ceilings: dict[str, float] = field(default_factory=dict)
    """Most multiply-adds a second that this machine can do, by the first word of a kernel's name, such as
    `popcount 1.26e12 bytes 0.236e12`; popcount: of one bit by one bit. Adds a column."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the results here."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """And here, as a table for spreadsheets."""
    docs: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write a page of Markdown, its picture and its CSV into this folder."""
    again: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Measure nothing: show and write the results that --json kept."""
    seed: int = 0

    def check(self) -> None:
        """
        Raises:
            ValueError: a name or a number is not valid.
        """
        if self.threads < 1 or self.rounds < 1:
            raise ValueError(f"--threads {self.threads} --rounds {self.rounds}: both must be at least 1")
        for name in self.layers:
            Layer.parse(name)
        for name in self.bits:
            Bits.parse(name)


def main(options: Options) -> None:
    options.check()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.again is None:
        results = measure(options, console)
    else:
        results = from_json(options.again.read_text())
        show_machine(results.machine, console)
        for layer in results.layers():
            console.print(layer_table(results, layer, options.ceilings))
    if options.json is not None:
        write(options.json, to_json(results))
    if options.csv is not None:
        write(options.csv, to_csv(results))
    if options.docs is not None:
        write_docs(results, options.docs, options.ceilings)


def measure(options: Options, console: Console) -> Results:
    """Measure layer after layer, and print each table when it is there."""
    bitorch_runtime.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    empty = {layer.linear: others(layer, options, rng) for layer in (EMPTY_CONVOLUTION, EMPTY_LINEAR)}
    machine = describe_machine(options)
    show_machine(machine, console)
    names = QUICK_LAYERS if options.quick and options.layers == LAYERS else options.layers
    rows: list[Row] = []
    for layer in map(Layer.parse, names):
        pairs = bits_of(layer)
        if options.bits or options.quick:
            pairs = [Bits.parse(name) for name in options.bits or QUICK_BITS]
        ours: list[Contestant] = [OursFloat(layer, rng)]
        ours += [Ours(Problem.random(layer, bits, rng), rng) for bits in pairs]
        rows += measure_layer(layer, [*others(layer, options, rng), *ours], empty[layer.linear], options)
        console.print(layer_table(Results(machine, options.threads, rows), layer.name, options.ceilings))
    return Results(machine, options.threads, rows)


def others(layer: Layer, options: Options, rng: np.random.Generator) -> list[Contestant]:
    return [each for engine in options.engines for each in contestants(engine, layer, options.threads, rng)]


def measure_layer(layer: Layer, everybody: list[Contestant], empty: list[Contestant], options: Options) -> list[Row]:
    samples = play([*everybody, *empty], options.rounds, PAUSE_SECONDS if options.threads > 1 else 0.0)
    of_empty = {each.contestant.name: each for each in samples[len(everybody) :]}
    return [measured(layer, each, of_empty.get(each.contestant.name)) for each in samples[: len(everybody)]]


def describe_machine(options: Options) -> dict[str, str]:
    packages = ["bitorch-runtime", "numpy", *options.engines]
    cpu = bitorch_runtime.cpu()
    return {
        "CPU": cpu["name"],
        "kernels": f"{cpu['kernel']} ({cpu['reason']})",
        "threads": str(options.threads),
        "samples": f"{options.rounds} of each, in turn",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
        ),
        "command": shlex.join(["python", "benchmarks/layers.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "CPU frequency governor": governor(),
        "oneDNN may use": os.environ.get("ONEDNN_MAX_CPU_ISA", "all that the CPU has"),
        "load before": f"{os.getloadavg()[0]:.2f} of {cpu['cpus']} CPUs",
    }


def show_machine(machine: dict[str, str], console: Console) -> None:
    for key, value in machine.items():
        console.print(f"{key}: {value}", highlight=False)


def governor() -> str:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text().strip() if path.exists() else "not shown by this machine"


def write_docs(results: Results, folder: Path, ceilings: dict[str, float]) -> None:
    """layers.md, layers.csv and layers.png; for more threads than one, their number is in the names."""
    from layers_picture import picture

    stem = "layers" if results.threads == 1 else f"layers-{results.threads}-threads"
    write(folder / f"{stem}.png", picture(results))
    write(folder / f"{stem}.csv", to_csv(results))
    write(folder / f"{stem}.md", markdown(results, f"{stem}.png", ceilings))


if __name__ == "__main__":
    main(tyro.cli(Options))
