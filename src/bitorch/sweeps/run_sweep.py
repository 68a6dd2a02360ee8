"""A sweep from its plan to its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..train.settings import Settings
from ..train.sweep import Outcome, begun_run
from .folder import run_name, take_folder
from .metric import larger_is_better, metric_in
from .plan import Plan, Point
from .results import PointResult, Results, point_result
from .trial import Ended, Failure, Runner

#: Is called with the name and the end of a run.
OnEnd = Callable[[str, Ended], None]


def run_sweep(plan: Plan, folder: Path, runner: Runner, on_end: OnEnd) -> Results:
    """Train what a sweep lacks, each run in a folder of its own, and write results.csv and results.json.

    Runs that are done are read, and interrupted ones go on from their last checkpoints. A run that fails makes a row
    with its error, and the others are trained all the same; only a tpe search ends behind a run that a machine has
    failed, because what follows would depend on it.

    Args:
        plan: what is trained.
        folder: of the sweep.
        runner: trains runs.
        on_end: called with the name and the end of each run, also of those that were done before.

    Raises:
        ValueError: a folder of another sweep, or a metric that the runs do not measure. OSError: it cannot be written.
        ImportError: a tpe search without Optuna.
    """
    take_folder(folder, plan)
    points = plan.points
    rows = _suggested(plan, folder, runner, on_end) if points is None else _train(plan, points, folder, runner, on_end)
    metric = next((row.metric for row in rows if row.metric is not None), None)
    results = Results(metric, metric is None or larger_is_better(metric, plan.mode), plan.fields, rows)
    results.write(folder)
    return results


def _suggested(plan: Plan, folder: Path, runner: Runner, on_end: OnEnd) -> list[PointResult]:
    """Train a tpe search, round by round."""
    # Only here: Optuna takes a second to import, and need not be installed for other sweeps.
    from .suggestions import Suggestions

    suggestions = Suggestions(plan)
    rows: list[PointResult] = []
    while len(rows) < plan.count and not any(row.is_unfinished for row in rows):
        new = _train(plan, suggestions.ask(plan.count - len(rows)), folder, runner, on_end, first=len(rows) + 1)
        suggestions.tell(new)
        rows += new
    return rows


def _train(
    plan: Plan, points: Sequence[Point], folder: Path, runner: Runner, on_end: OnEnd, first: int = 1
) -> list[PointResult]:
    """Train all points, of which the first one has this number, as far as they are not done."""
    ends: dict[str, Ended] = {}

    def ended(name: str, end: Ended) -> None:
        if isinstance(end, Outcome):
            metric_in(end.history, plan.metric)  # a wrong name ends the sweep now, and not after hours
        ends[name] = end
        on_end(name, end)

    numbered = list(enumerate(points, first))
    runs = {number: _runs(plan, number, point) for number, point in numbered}
    pending: dict[str, Settings] = {}
    for name, run in (item for named in runs.values() for item in named.items()):
        end = run if isinstance(run, Failure) else begun_run(folder / name, run)
        if end is not None:
            ended(name, end)
        elif isinstance(run, Settings):
            pending[name] = run
    if pending:
        runner(pending, ended)
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    return [
        point_result(number, point, dict(zip(seeds, (ends[name] for name in runs[number]), strict=True)), plan.metric)
        for number, point in numbered
    ]


def _runs(plan: Plan, number: int, point: Point) -> dict[str, Settings | Failure]:
    """Return the settings of a point's runs by name; failures where a tpe search has put together what does not fit."""
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    names = [run_name(number, seed if plan.seeds > 1 else None) for seed in seeds]
    try:
        return dict(zip(names, plan.runs(point), strict=True))
    except (ValueError, TypeError) as error:
        return dict.fromkeys(names, Failure(str(error), is_of_the_run=True))
