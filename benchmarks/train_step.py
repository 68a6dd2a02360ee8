"""Time and memory of a training step: SVHN net A, 40×40, channels-last; float, low-bit, and BITorch 0.4.1 beside them.

Every net trains in a process of its own, one step at a time in turn, so that a drift of the machine meets all of them
alike; ratios are medians over the rounds. Memory is the peak of what PyTorch's allocator holds, and of what the process
keeps resident, which includes what malloc has not returned. `make bench-step` makes BITorch's environment and runs it.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

import bitorch
from train_step_worker import METHODS, THEIRS

BASE = "float"
FLOAT32 = ("W1A2G6", "W1A2G6, ReLUs kept", "W1A2")
BF16 = ("float, bf16", "W1A2G6, bf16", "W1A2G6, bf16, exact=False")


@dataclass(frozen=True)
class Options:
    """Measure a training step of SVHN net A."""

    batch: int = 64
    """Images per step."""
    rounds: int = 60
    """Steps that are counted, after warm-up."""
    warmup: int = 5
    """Steps that are not."""
    methods: bool = False
    """Compare every method with float, in place of DoReFa's bits."""
    bf16: bool = False
    """Compare under autocast to bfloat16, with exact low-bit layers and without."""
    theirs: Annotated[Path | None, tyro.conf.arg(metavar="PYTHON")] = None
    """Python of an environment with BITorch 0.4.1; without it, that row is left out."""


@dataclass
class Contestant:
    name: str
    process: subprocess.Popen[str]
    steps: list[dict[str, float]] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)

    def step(self) -> dict[str, float]:
        """Make a training step; return its seconds and loss."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def finish(self) -> None:
        """End the process, which answers with the bytes it took."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.memory = self._answer()
        self.process.wait()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended with exit status {self.process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer


def start(name: str, python: str, batch: int) -> Contestant:
    worker = Path(__file__).with_name("train_step_worker.py")
    process = subprocess.Popen(
        [python, str(worker), name, str(batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Contestant(name, process)


def main(options: Options) -> None:
    names = METHODS if options.methods else BF16 if options.bf16 else FLOAT32
    contestants = [start(name, sys.executable, options.batch) for name in (BASE, *names)]
    if options.theirs is not None:
        contestants.append(start(THEIRS, str(options.theirs), options.batch))
    for round_ in range(options.warmup + options.rounds):
        for contestant in contestants:
            step = contestant.step()
            if not 0 <= step["loss"] < 100:
                raise RuntimeError(f"{contestant.name} does not train: its loss is {step['loss']}")
            if round_ >= options.warmup:
                contestant.steps.append(step)
    for contestant in contestants:
        contestant.finish()
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(
        f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, bitorch {bitorch.__version__}, "
        f"batch {options.batch}, {options.rounds} rounds"
    )
    console.print(table(contestants))


def table(contestants: list[Contestant]) -> Table:
    result = Table(title="a training step of SVHN net A, 40×40, channels-last")
    for header in ("net", "ms", "time / float", "MB allocated", "/ float", "MB resident", "/ float", "last loss"):
        result.add_column(header, justify="left" if header == "net" else "right")
    base = contestants[0].steps
    for contestant in contestants:
        steps = contestant.steps
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(steps, base, strict=True))
        memory = [
            text
            for kind in ("allocated", "resident")
            for text in (
                f"{contestant.memory[kind] / 1e6:.0f}",
                f"{contestant.memory[kind] / contestants[0].memory[kind]:.3f}",
            )
        ]
        result.add_row(
            contestant.name,
            f"{1e3 * statistics.median(step['seconds'] for step in steps):.1f}",
            f"{ratio:.3f}",
            *memory,
            f"{steps[-1]['loss']:.4f}",
        )
    return result


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main(tyro.cli(Options))
