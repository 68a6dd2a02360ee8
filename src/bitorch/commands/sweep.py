"""`bitorch sweep`: a grid or a search over settings, on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .console import FAILED, print_error
from .options import parse
from .own_quantizers import register_files, split_option

if TYPE_CHECKING:
    from ..sweeps.plan import Plan
    from ..sweeps.results import Results
    from ..sweeps.trial import Ended, Runner


@dataclass(frozen=True)
class _Arguments:
    """Train a grid or a search of settings, and say which is best. The same command goes on after a kill.

    Writes results.csv and results.json, and below the folder that of each run, as bitorch train does.
    Exit code 0: all trained; 1: a run failed, and the table says why; 2: wrong arguments, files or folders, or a
    cluster that does not answer; 130: Ctrl-C.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """YAML or JSON file: settings, and a grid or a search of more of them."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder of the sweep. Default: runs/ and the name of the file."""
    jobs: int | None = None
    """Runs to train at the same time. Default: as many as there are cores for, or as the cluster has room for."""
    address: str | None = None
    """Train on this Ray cluster: HOST:PORT, or auto for the one that runs on this machine."""
    retries: int = 2
    """How often a run whose process or machine dies is taken up again, from its last checkpoint."""


def run(arguments: list[str]) -> int:
    """Train what the sweep lacks, and print its table."""
    quantizers, arguments = split_option(arguments)
    options = parse(_Arguments, arguments, "bitorch sweep")
    # Only here: PyTorch takes seconds to import, for which --help and a wrong flag need not wait.
    from ..sweeps.run_sweep import run_sweep
    from ..sweeps.sweep_file import read_sweep

    folder = Path("runs") / options.file.stem if options.out is None else options.out
    try:
        plan = read_sweep(options.file)
        _check_own_code(plan, options.file)
        told = _Told(plan.count * plan.seeds, plan.metric)
        with _runner(options, plan, folder.absolute(), partial(register_files, quantizers)) as runner:
            results = run_sweep(plan, folder, runner, told)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("\nthe same command goes on where it was", flush=True)
        raise
    _print(results, folder)
    return FAILED if results.has_failed else 0


def _runner(
    options: _Arguments, plan: Plan, folder: Path, prepare: Callable[[], None]
) -> AbstractContextManager[Runner]:
    if options.address is None:
        from ..sweeps.local import LocalRunner, most_jobs

        jobs = most_jobs(plan.cpus, plan.gpus) if options.jobs is None else options.jobs
        return nullcontext(LocalRunner(folder, jobs, plan.cpus, plan.gpus, options.retries, prepare))
    from ..sweeps.cluster import ray_runner

    return ray_runner(
        folder,
        options.address,
        jobs=options.jobs,
        cpus=plan.cpus,
        gpus=plan.gpus,
        retries=options.retries,
        prepare=prepare,
    )


def _check_own_code(plan: Plan, path: Path) -> None:
    """Raise an error if a sweep names code of the user's own that has not been run here before."""
    from ..own_code import is_own
    from ..recorded_code import find_recorded
    from .recorded_fields import OWN_FIELDS

    points = plan.points
    if points is None:
        assert plan.search is not None  # of algorithm tpe
        points = plan.search.corners()
    said = dict.fromkeys((name, {**plan.settings, **point}.get(name)) for point in points for name in OWN_FIELDS)
    for name, value in said:
        if isinstance(value, str) and is_own(value):
            option = f"bitorch check --{name.replace('_', '-')}"
            find_recorded(value, None, said_by=str(path), what=name, option=option)


class _Told:
    """Prints a line for each run that has ended."""

    def __init__(self, runs: int, metric: str) -> None:
        self._runs, self._metric, self._ended = runs, metric, 0

    def __call__(self, name: str, end: Ended) -> None:
        from ..sweeps.metric import metric_in, value_in
        from ..sweeps.trial import Failure
        from ..train.progress import value_text

        self._ended += 1
        if isinstance(end, Failure):
            text = f"failed: {end.error}"
        else:
            metric = metric_in(end.history, self._metric)
            text = f"{metric} {value_text(metric, value_in(end.history, metric))}"
        print(f"{self._ended}/{self._runs} {name}: {text}", flush=True)


def _print(results: Results, folder: Path) -> None:
    from rich.console import Console

    from .sweep_table import sweep_table

    Console().print(sweep_table(results))
    print(f"all numbers are in {folder / 'results.csv'} and {folder / 'results.json'}")
