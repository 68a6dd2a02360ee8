"""Whole networks: ours at several bits, beside PyTorch in float32 and bfloat16, OpenVINO in float32 and int8, and ONNX
Runtime in int8. Networks of tokens are measured beside PyTorch and OpenVINO.

One sample each in turn, so that a drift of the machine meets all alike. A time is that of the whole Python call, from
pixels to scores. Weights are random. Ours is what `bitorch.deploy` makes of the model, verified tensor by tensor, with
the settings of networks_models.py. In the int8 engines all layers are int8. Every output is checked before it is timed.
On a CPU with AMX, engines that use it take part twice: as they are, and kept from using it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import tyro
from rich.console import Console
from rich.table import Table

import bitorch_runtime
import networks_ours
from layers_cases import Bits
from layers_results import write
from layers_timing import play
from networks_capture import captured, scored
from networks_deployed import deployed
from networks_models import ARCHITECTURES, NETS, TOKENS, float_model, image_size
from networks_results import Results, Row, from_json, markdown, measured, ours, rivals, to_json, together
from networks_rivals import ENGINES, Engine, Instructions, Job, has_amx
from networks_rivals import rivals as running_rivals

BITS = ("W1A2", "W2A2", "W4A4", "W8A8")
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """Measure whole networks."""

    nets: tuple[str, ...] = NETS
    bits: tuple[str, ...] = BITS
    """Bits of weights and activations between the first and the last layer."""
    engines: tuple[Engine, ...] = ENGINES
    """Who else takes part; `--only-ours` for nobody."""
    only_ours: bool = False
    instructions: tuple[Instructions, ...] = ("own", "no-amx")
    """What the other engines may use: all that the CPU has, all but AMX, or one after the other."""
    threads: tuple[int, ...] = (1,)
    """Threads of every engine."""
    batches: tuple[int, ...] = (1,)
    rounds: int = 15
    """Samples of each contestant."""
    profile: bool = False
    """Show what each operation of ours takes, too."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the results here."""
    docs: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write networks.md, a page of tables, into this folder."""
    again: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILES")] = ()
    """Measure nothing: write what --json kept, of one run or of several."""
    seed: int = 0

    def check(self) -> None:
        """
        Raises:
            ValueError: a name or a number is not valid.
        """
        if min(*self.threads, *self.batches, self.rounds) < 1:
            raise ValueError("--threads, --batches and --rounds must be at least 1")
        for net in self.nets:
            if net not in ARCHITECTURES:
                raise ValueError(f"--nets: there is no {net!r}, but {', '.join(NETS)}")
        for name in self.bits:
            Bits.parse(name)


def main(options: Options) -> None:
    options.check()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if options.again:
        results = together([from_json(path.read_text()) for path in options.again])
    else:
        results = measure(options, console)
    if options.json is not None:
        write(options.json, to_json(results))
    if options.docs is not None:
        write(options.docs / "networks.md", markdown(results))


def measure(options: Options, console: Console) -> Results:
    """Measure network after network, and print each table when it is there."""
    results = Results(describe_machine(options), [])
    for key, value in results.machine.items():
        console.print(f"{key}: {value}", highlight=False)
    for net in options.nets:
        files = {bits: deployed(net, bits) for bits in map(Bits.parse, options.bits)}
        floats = 4 * sum(parameter.numel() for parameter in float_model(net).parameters())
        sizes = ", ".join(f"{bits} {path.stat().st_size:,}" for bits, path in files.items())
        console.print(f"\n{net}: packed files of {sizes} bytes, float32 weights of {floats:,}", highlight=False)
        models = {bits: bitorch_runtime.load(path) for bits, path in files.items()}
        for batch in options.batches:
            images = _images(net, batch, options.seed)
            for threads in options.threads:
                rows = measure_net(net, models, images, threads, options)
                results.rows.extend(rows)
                console.print(net_table(rows))
        if options.profile:
            for model in models.values():
                console.print(model.profile(networks_ours.as_input(_images(net, 1, options.seed)), repeats=50))
    return results


def _images(net: str, batch: int, seed: int) -> npt.NDArray[np.uint8]:
    """The first images of a larger batch are those of a smaller one."""
    size = image_size(net)
    return np.random.default_rng(seed).integers(0, 255, (batch, size, size, 3), np.uint8, endpoint=True)


def measure_net(
    net: str,
    models: dict[Bits, bitorch_runtime.Model],
    images: npt.NDArray[np.uint8],
    threads: int,
    options: Options,
) -> list[Row]:
    bitorch_runtime.set_num_threads(threads)
    with contextlib.ExitStack() as processes:
        everybody = [networks_ours.contestant(model, bits, images) for bits, model in models.items()]
        if not options.only_ours:
            graph = (scored if net in TOKENS else captured)(float_model(net), images)
            for instructions in options.instructions:
                if instructions == "own" or has_amx():
                    job = Job(net, graph, options.engines, instructions, threads)
                    everybody += processes.enter_context(running_rivals(job))
        samples = play(everybody, options.rounds, PAUSE_SECONDS if threads > 1 else 0.0)
    return [measured(net, threads, len(images), each) for each in samples]


def net_table(rows: list[Row]) -> Table:
    """How many times faster ours is than each of the others, by bits."""
    first = rows[0]
    by_name = {row.contestant: row for row in rows}
    threads = "1 thread" if first.threads == 1 else f"{first.threads} threads"
    table = Table(title=f"{first.net}, {threads}, batch {first.batch}")
    table.add_column("")
    for column in ("ms per image", "least", *(f"{bits} is faster ×" for bits in ours(by_name))):
        table.add_column(column, justify="right")
    table.add_column("kernel")
    for row in [*ours(by_name).values(), *rivals(by_name)]:
        ratios = [f"{row.median / mine.median:.2f}" for mine in ours(by_name).values()]
        table.add_row(row.contestant, f"{row.median * 1e3:.3f}", f"{row.least * 1e3:.3f}", *ratios, row.kernel)
    return table


def describe_machine(options: Options) -> dict[str, str]:
    cpu = bitorch_runtime.cpu()
    engines = () if options.only_ours else options.engines
    packages = ", ".join(f"{name} {version(name)}" for name in ("bitorch-runtime", "numpy", *engines))
    return {
        "CPU": cpu["name"],
        "AMX": "there" if has_amx() else "not there",
        "kernels": f"{cpu['kernel']} ({cpu['reason']})",
        "versions": f"Python {platform.python_version()}, {packages}",
        "samples": f"{options.rounds} of each, in turn",
        "command": shlex.join(["python", "benchmarks/networks.py", *sys.argv[1:]]),
        "load before": f"{os.getloadavg()[0]:.2f} of {cpu['cpus']} CPUs",
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
