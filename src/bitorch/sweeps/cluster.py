"""Runs on a Ray cluster: Ray Tune gives each the cores that it asks for, and takes up those whose machine has died."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..train.recorder import Row
from ..train.settings import Settings
from ..train.sweep import Outcome
from .folder import is_of_sweep
from .ray_cluster import check_nodes, connected, tune
from .trial import Ended, Failure, train_trial

#: Of Tune, which keeps its own state in a folder below that of the sweep; ours is in the folders of the runs.
_STATE = ".ray"
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths in settings start where the command was called
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints a heading even where it is told to print nothing
}


@contextmanager
def ray_runner(
    folder: Path, address: str, *, jobs: int | None, cpus: int, gpus: int, retries: int, prepare: Callable[[], None]
) -> Iterator[RayRunner]:
    """Give what trains runs on a cluster, connected inside.

    Args:
        folder: of the sweep, on storage that all machines see.
        address: HOST:PORT, or "auto" for the cluster of this machine.
        jobs: runs at the same time; None: as many as there is room for.
        cpus, gpus: of each run, which Ray counts.
        retries: how often a run whose process or machine has died is taken up again, from its last checkpoint.
        prepare: is called before each run in its process; it can be pickled.

    Raises:
        ValueError: jobs below 1, retries below 0, an address of another form.
        ConnectionError: no cluster answers there.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    if retries < 0:
        raise ValueError(f"retries must be at least 0, got {retries}")
    with connected(address), _environment():
        yield RayRunner(folder.absolute(), jobs, cpus, gpus, retries, prepare)


@dataclass(frozen=True)
class RayRunner:
    """Trains runs on the cluster that this process is connected to; `ray_runner` makes it."""

    folder: Path
    jobs: int | None
    cpus: int
    gpus: int
    retries: int
    prepare: Callable[[], None]

    def __call__(self, runs: Mapping[str, Settings], on_end: Callable[[str, Ended], None]) -> None:
        """Train the runs, and tell the end of each.

        Raises:
            ValueError: a machine of the cluster does not see the folder, or has another bitorch.
        """
        check_nodes(self.folder, self.cpus, self.gpus)
        state = self.folder / _STATE
        shutil.rmtree(state, ignore_errors=True)
        told = _Told(runs, on_end)
        trainable = partial(
            _train, folder=self.folder, start=Path.cwd(), runs=runs, cpus=self.cpus, prepare=self.prepare
        )
        try:
            tune.Tuner(
                tune.with_resources(trainable, {"cpu": self.cpus, "gpu": self.gpus}),
                param_space={"name": tune.grid_search(list(runs))},
                tune_config=tune.TuneConfig(max_concurrent_trials=self.jobs),
                run_config=tune.RunConfig(
                    name="runs",
                    storage_path=str(state),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=self.retries),
                    callbacks=[told],
                ),
            ).fit()
        finally:
            shutil.rmtree(state, ignore_errors=True)
        told.raise_error()


class _Told(tune.Callback):  # type: ignore[misc]  # of a package that need not be here
    """Tells the ends of runs as Tune learns of them. Errors of who is told wait until Tune has returned."""

    def __init__(self, runs: Mapping[str, Settings], on_end: Callable[[str, Ended], None]) -> None:
        self._runs, self._on_end = runs, on_end
        self._error: ValueError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave all out of what Tune keeps on the disk."""
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take what a run has reached."""
        self._tell(trial, _ended(trial.last_result, self._runs[trial.config["name"]]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take why a run has been given up."""
        reason = str(trial.get_error()).strip().splitlines()
        why = reason[0] if reason else "for no known reason"
        text = f"its process or machine died {trial.num_failures} times: {why}"
        self._tell(trial, Failure(text, is_of_the_run=False))

    def raise_error(self) -> None:
        """Raise the first error of who was told."""
        if self._error is not None:
            raise self._error

    def _tell(self, trial: Any, end: Ended) -> None:
        if self._error is None:
            try:
                self._on_end(trial.config["name"], end)
            except ValueError as error:
                self._error = error


def _train(
    config: Mapping[str, Any],
    *,
    folder: Path,
    start: Path,
    runs: Mapping[str, Settings],
    cpus: int,
    prepare: Callable[[], None],
) -> None:
    """Train a run on a machine of the cluster, and report its end."""
    os.chdir(start)
    prepare()
    name, end = config["name"], _lost(folder)
    if end is None:
        end = train_trial(folder / name, runs[name], cpus=cpus)
    if isinstance(end, Failure):
        tune.report({"error": end.error, "is_of_the_run": end.is_of_the_run})
    else:
        tune.report({"history": [dict(row) for row in end.history]})


def _lost(folder: Path) -> Ended | None:
    """Return a failure on a machine that joined the cluster after all were asked, and does not see the folder."""
    if is_of_sweep(folder):
        return None
    return Failure(f"the machine {socket.gethostname()} does not see the folder {folder}", is_of_the_run=False)


def _ended(reported: Mapping[str, Any], settings: Settings) -> Ended:
    if "error" in reported:
        return Failure(reported["error"], reported["is_of_the_run"])
    history: list[Row] = reported["history"]
    return Outcome(settings, tuple(history))


@contextmanager
def _environment() -> Iterator[None]:
    """Let Tune keep to itself what it would do to folders, logs and Ctrl-C, and tracebacks of processes that died."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
