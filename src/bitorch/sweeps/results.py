"""What the points of a sweep reached, as a table that is the same however it was trained."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..train.files import write_atomically
from ..train.sweep import Outcome
from .metric import metric_in, value_in
from .plan import Point
from .trial import Ended, Failure

CSV_NAME, JSON_NAME = "results.csv", "results.json"


@dataclass(frozen=True)
class PointResult:
    """What one point of a sweep reached.

    Attributes:
        number: of the point, from 1.
        point: its values by field.
        metric: its name; None where no run has reached anything.
        values: of the metric after the last epoch, by seed; None of a run that failed.
        error: of the runs that failed, "" if none did.
        is_unfinished: a machine has failed one of them, which may go on.
    """

    number: int
    point: Point
    metric: str | None
    values: Mapping[int, float | None]
    error: str
    is_unfinished: bool

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None if a run failed, or the mean is not finite."""
        values = [value for value in self.values.values() if value is not None]
        mean = statistics.fmean(values) if values and not self.error else math.nan
        return mean if math.isfinite(mean) else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds, of a sample; None of one seed, or where there is no mean."""
        values = [value for value in self.values.values() if value is not None]
        return statistics.stdev(values) if self.mean is not None and len(values) > 1 else None


@dataclass(frozen=True)
class Results:
    """What a sweep reached.

    Attributes:
        metric: its name; None if every run failed, and none said what "auto" is.
        larger_is_better: whether its largest mean is the best.
        fields: that the points differ in.
        rows: one for each point, in their order.
    """

    metric: str | None
    larger_is_better: bool
    fields: Sequence[str]
    rows: Sequence[PointResult]

    @property
    def best(self) -> PointResult | None:
        """The point with the best mean, the first of equal ones; None where no point has one."""
        best: PointResult | None = None
        for row in self.rows:
            if row.mean is None:
                continue
            sign = 1 if self.larger_is_better else -1
            if best is None or best.mean is None or sign * row.mean > sign * best.mean:
                best = row
        return best

    @property
    def seeds(self) -> list[int]:
        """The seeds of each point, in their order."""
        return list(dict.fromkeys(seed for row in self.rows for seed in row.values))

    @property
    def has_failed(self) -> bool:
        """Whether a run has failed."""
        return any(row.error for row in self.rows)

    def write(self, folder: Path) -> None:
        """Write results.csv and results.json into a folder."""
        for name, text in ((CSV_NAME, self._csv()), (JSON_NAME, self._json())):
            _write(folder / name, text)

    def _csv(self) -> str:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        metric = "value" if self.metric is None else self.metric
        seeds = [f"{metric}_seed_{seed}" for seed in self.seeds]
        writer.writerow(["point", *self.fields, metric, f"{metric}_std", *seeds, "best", "error"])
        for row in self.rows:
            fields = [_cell(row.point[name]) for name in self.fields]
            numbers = [row.mean, row.spread, *(row.values.get(seed) for seed in self.seeds)]
            is_best = "yes" if row is self.best else ""
            writer.writerow([row.number, *fields, *map(_number, numbers), is_best, row.error])
        return text.getvalue()

    def _json(self) -> str:
        best = self.best
        content: dict[str, Any] = {
            "metric": self.metric,
            "mode": "max" if self.larger_is_better else "min",
            "best": None if best is None else best.number,
            "points": [
                {
                    "point": row.number,
                    "settings": dict(row.point),
                    "mean": row.mean,
                    "std": row.spread,
                    "seeds": {str(seed): _finite(value) for seed, value in row.values.items()},
                    "error": row.error,
                }
                for row in self.rows
            ],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def point_result(number: int, point: Point, ends: Mapping[int, Ended], metric: str) -> PointResult:
    """Return what a point reached, of the ends of its runs by seed.

    Args:
        metric: by its own name, or "auto".

    Raises:
        ValueError: a metric that the runs do not measure.
    """
    name: str | None = None
    values: dict[int, float | None] = {}
    errors = []
    for seed, end in ends.items():
        if isinstance(end, Outcome):
            name = metric_in(end.history, metric)
            values[seed] = value_in(end.history, name)
        else:
            values[seed] = None
            errors.append(end.error if len(ends) == 1 else f"seed {seed}: {end.error}")
    is_unfinished = any(isinstance(end, Failure) and not end.is_of_the_run for end in ends.values())
    return PointResult(number, point, name, values, "; ".join(errors), is_unfinished)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _cell(value: Any) -> Any:
    """Return a setting as a cell: a list as JSON."""
    return json.dumps(value) if isinstance(value, list) else value


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
