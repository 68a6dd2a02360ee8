"""What training.py found: a table of contestants, one of kinds of layers, and both as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from training_contestants import BF16, FLOAT


@dataclass(frozen=True)
class Measured:
    """A contestant's steps.

    Attributes:
        seconds: of each step that counts.
        loss: after the last one.
        allocated, resident: bytes, of PyTorch's allocator and of the process.
        kinds: milliseconds of a step by kinds of layers; empty without a profile.
    """

    name: str
    seconds: list[float]
    loss: float
    allocated: float
    resident: float
    kinds: dict[str, float]


@dataclass(frozen=True)
class Case:
    """What was measured side by side: a net, its title, images per step, threads, and the contestants."""

    net: str
    title: str
    batch: int
    threads: int
    contestants: list[Measured]

    def __str__(self) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.title}, batch {self.batch}, {threads}"

    def find(self, name: str) -> Measured | None:
        return next((each for each in self.contestants if each.name == name), None)


def time_ratio(one: Measured, other: Measured) -> float:
    """Return the median over the rounds of one's time over the other's in the same round."""
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def table(case: Case) -> Table:
    """Return times and bytes, and their ratios to those of the float nets."""
    result = Table(title=f"a training step of {case}")
    bases = [base for base in map(case.find, (FLOAT, BF16)) if base is not None]
    memory = [header for kind in ("allocated", "resident") for header in (f"MB {kind}", f"÷ {FLOAT}")]
    for header in ("net", "ms", *(f"÷ {base.name}" for base in bases), *memory, "last loss"):
        result.add_column(header, justify="left" if header == "net" else "right")
    for each in case.contestants:
        of_memory = [
            cell
            for kind in ("allocated", "resident")
            for cell in (f"{getattr(each, kind) / 1e6:.0f}", f"{getattr(each, kind) / getattr(bases[0], kind):.2f}")
        ]
        result.add_row(
            each.name,
            f"{1e3 * statistics.median(each.seconds):.1f}",
            *(f"{time_ratio(each, base):.2f}" for base in bases),
            *of_memory,
            f"{each.loss:.4f}",
        )
    return result


def table_of_kinds(case: Case) -> Table:
    """Return the milliseconds of each kind of layer in one step, with the profiler's own."""
    result = Table(title=f"ms in a profiled step of {case}")
    result.add_column("net")
    kinds = list(case.contestants[0].kinds)
    for kind in kinds:
        result.add_column(kind, justify="right")
    for each in case.contestants:
        total = sum(each.kinds.values())
        result.add_row(each.name, *(f"{each.kinds[kind]:.1f} ({each.kinds[kind] / total:.0%})" for kind in kinds))
    return result


def to_json(machine: dict[str, Any], cases: list[Case]) -> dict[str, Any]:
    """Return machine and cases as types that JSON has, with the ratios that the tables have."""
    rows = []
    for case in cases:
        row = asdict(case)
        for each, fields in zip(case.contestants, row["contestants"], strict=True):
            fields["milliseconds"] = 1e3 * statistics.median(each.seconds)
            for base in filter(None, map(case.find, (FLOAT, BF16))):
                fields[f"time_over_{base.name}"] = time_ratio(each, base)
        rows.append(row)
    return {"machine": machine, "cases": rows}
