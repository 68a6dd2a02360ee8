"""The table of a sweep, for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ..short_repr import short_repr
from ..sweeps.results import PointResult, Results
from ..train.progress import value_text


def sweep_table(results: Results) -> Table:
    """Return a row for each point, the best one marked; a column of errors where there are some."""
    metric = "value" if results.metric is None else results.metric
    seeds = len(results.seeds)
    table = Table(title=None)
    table.add_column("point", justify="right")
    for name in results.fields:
        table.add_column(Text(name))
    table.add_column(Text(metric if seeds == 1 else f"{metric}, mean ± deviation of {seeds} seeds"), justify="right")
    table.add_column("")
    if results.has_failed:
        table.add_column("error")
    for row in results.rows:
        cells = [str(row.number), *(short_repr(row.point[name]) for name in results.fields), _value(row, metric)]
        cells += ["best" if row is results.best else "", *([row.error] if results.has_failed else [])]
        table.add_row(*map(Text, cells))  # as they are: rich would take [1, 2, 6] for a style
    return table


def _value(row: PointResult, metric: str) -> str:
    if row.mean is None:
        return "–"
    mean = value_text(metric, row.mean)
    return mean if row.spread is None else f"{mean} ± {value_text(metric, row.spread)}"
