"""What integer_training.py prints of a task: accuracies and seconds of each way to train."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rich.table import Table

from integer_training_runs import Run

Runs = Mapping[str, Sequence[Run]]
FLOAT = "float32"


def table(title: str, runs: Runs, target: float) -> Table:
    """Return a table of all ways, one run for each seed; "points to simulated" compares runs of the same seed."""
    result = Table(title=title)
    headers = ("net", "accuracy", "± sd", "lowest to highest", "points to simulated", "s per epoch", f"÷ {FLOAT}")
    for header in (*headers, f"s to {target:.0%}"):
        result.add_column(header, justify="left" if header == "net" else "right")
    for name, of_seeds in runs.items():
        accuracies = [100 * run.accuracy for run in of_seeds]
        result.add_row(
            name,
            f"{statistics.mean(accuracies):.2f} %",
            _deviation(accuracies),
            f"{min(accuracies):.2f} to {max(accuracies):.2f}",
            _to_simulated(name, runs),
            f"{statistics.mean(second for run in of_seeds for second in run.seconds):.2f}",
            f"{time_ratio(of_seeds, runs[FLOAT]):.2f}",
            _time_to(target, of_seeds),
        )
    return result


def time_ratio(runs: Sequence[Run], others: Sequence[Run]) -> float:
    """Return the median over seeds and epochs of the time over that of the others."""
    return statistics.median(
        second / other
        for run, base in zip(runs, others, strict=True)
        for second, other in zip(run.seconds, base.seconds, strict=True)
    )


def simulated_twin(name: str) -> str | None:
    """Return the name of the simulated way with the bits of one on integers, None for others."""
    bits, _, how = name.partition(", ")
    return f"{bits}, simulated" if how.startswith("integer") else None


def _to_simulated(name: str, runs: Runs) -> str:
    twin = simulated_twin(name)
    if twin is None:
        return ""
    points = [100 * (run.accuracy - other.accuracy) for run, other in zip(runs[name], runs[twin], strict=True)]
    return f"{statistics.mean(points):+.2f}" + (f" ± {_deviation(points)}" if len(points) > 1 else "")


def _deviation(values: Sequence[float]) -> str:
    return f"{statistics.stdev(values):.2f}" if len(values) > 1 else ""


def _time_to(target: float, runs: Sequence[Run]) -> str:
    """Return the mean seconds of the runs that reached it, and how many did where not all of them."""
    reached = [seconds for run in runs if (seconds := run.seconds_to(target)) is not None]
    if not reached:
        return "never"
    some = "" if len(reached) == len(runs) else f" ({len(reached)} of {len(runs)})"
    return f"{statistics.mean(reached):.1f}{some}"
