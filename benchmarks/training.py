"""Time and memory of whole training steps: float32, bfloat16, low-bit on floats and on integers, side by side.

A step is forward, loss, backward and optimizer, of channels-last images. Every contestant trains in a process of its
own, one step at a time in turn, so that a drift of the machine meets all of them alike; ratios are medians over the
rounds. Memory is the peak of what PyTorch's allocator holds, and of what the process keeps resident, which includes
what malloc has not returned and what the integer kernels keep. Before anything is timed, steps on integers are compared
with those on floats. `make bench-training` runs it; leave the machine to itself meanwhile.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

import bitorch
from bitorch.layers.integer_kernels import machine_obstacle
from training_check import check
from training_contestants import BITS, THEIRS, Comparison, names
from training_nets import NETS
from training_process import Process, race, start
from training_results import Case, Measured, table, table_of_kinds, to_json


@dataclass(frozen=True)
class Options:
    """Measure training steps. Every net is measured with every batch and every number of threads."""

    nets: tuple[str, ...] = ("svhn-a", "resnet18-64")
    """Of svhn-a, resnet18-32, resnet18-64 and vgg-small."""
    batches: tuple[int, ...] = (64,)
    """Images per step."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of PyTorch, on which the integer kernels compute, too."""
    rounds: int | None = None
    """Steps that are counted, after warm-up. Default: 25 of svhn-a, 10 of resnet18-64, 8 of the others."""
    warmup: int = 3
    """Steps that are not."""
    compare: Comparison = "kernels"
    """kernels: low-bit layers on floats and on integers. bits: DoReFa's. bf16: autocast. methods: each method."""
    compiled: bool = False
    """Let float32 by torch.compile take part in kernels; to compile it takes minutes."""
    profile: bool = False
    """Print where the time of a step goes, by kinds of layers."""
    theirs: Annotated[Path | None, tyro.conf.arg(metavar="PYTHON")] = None
    """Python of an environment with BITorch 0.4.1; without it, its row is left out."""
    out: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None
    """Where all times go, in JSON."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.nets) - NETS.keys())
        if unknown:
            raise ValueError(f"nets must be of {', '.join(NETS)}, got {', '.join(unknown)}")
        for name in ("batches", "threads"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"{name} must be numbers of at least 1, got {getattr(self, name)}")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")


def main(options: Options) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    why = machine_obstacle()
    machine = describe_machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    if why is not None:
        console.print(f"no steps on integers: {why}")
    cases = []
    for net, batch, threads in product(options.nets, options.batches, options.threads):
        torch.set_num_threads(threads)
        if why is None and options.compare == "kernels":
            for bits in BITS:
                console.print(check(net, batch, bits), highlight=False)
        case = measure(options, net, batch, threads, has_kernels=why is None)
        cases.append(case)
        console.print(table(case))
        if options.profile:
            console.print(table_of_kinds(case))
        if options.out is not None:  # after each, as all of them may take long
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(to_json(machine, cases), indent=1), encoding="utf-8")


def measure(options: Options, net: str, batch: int, threads: int, *, has_kernels: bool) -> Case:
    """Let the contestants train side by side."""
    members = names(options.compare, has_kernels=has_kernels, compiled=options.compiled)
    processes = [start(name, sys.executable, net, batch, threads) for name in members]
    if options.theirs is not None:
        processes.append(start(THEIRS, str(options.theirs), net, batch, threads))
    try:
        race(processes, options.warmup, NETS[net].rounds if options.rounds is None else options.rounds)
        for each in processes:
            if options.profile:
                each.profile()
            each.finish()
    finally:
        for each in processes:
            each.stop()
    return Case(net, NETS[net].title, batch, threads, [measured(each) for each in processes])


def measured(process: Process) -> Measured:
    return Measured(
        process.name,
        [step["seconds"] for step in process.steps],
        process.steps[-1]["loss"],
        process.memory["allocated"],
        process.memory["resident"],
        process.kinds,
    )


def describe_machine() -> dict[str, Any]:
    """Return the CPU and the versions of what is measured."""
    return {
        "CPU": cpu_name(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "bitorch": bitorch.__version__,
    }


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main(tyro.cli(Options))
