"""What tells which point of a sweep is the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..train.recorder import Row
from ..train.settings import METRIC_NAMES

#: Names of `Settings.metric`, "auto" among them.
KNOWN_METRICS = METRIC_NAMES
_LEAST = ("loss", "mae", "rmse")
#: The first metric of each loss, which "auto" means, in the history of a run with that loss.
_FIRST = ("acc", "f1", "mae", "miou")
_PREFIX = "val/"


def metric_in(history: Sequence[Row], metric: str) -> str:
    """Return the metric of a run's history that a name stands for.

    Raises:
        ValueError: the history has none of that name, with those that it has.
    """
    names = [column.removeprefix(_PREFIX) for column in history[-1] if column.startswith(_PREFIX)]
    if metric == "auto":
        return next((name for name in _FIRST if name in names), "loss")
    if metric not in names:
        raise ValueError(f"metric must be one of those that the runs measure, {', '.join(names)}, got {metric!r}")
    return metric


def value_in(history: Sequence[Row], metric: str) -> float:
    """Return a metric after the last epoch."""
    return history[-1][f"{_PREFIX}{metric}"]


def larger_is_better(metric: str, mode: Literal["min", "max"] | None) -> bool:
    """Return whether the largest value of a metric is the best one: as the sweep says, or as is known of it."""
    return metric not in _LEAST if mode is None else mode == "max"
