"""Many runs, in a folder that remembers which of them are done."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ..structured_text import parse_json, read_text
from .checkpoint import Checkpoint, read_checkpoint
from .content import Part
from .files import write_atomically
from .progress import is_first_process
from .recorder import Row
from .run import fit
from .settings import Settings

_OUTCOME = "outcome.json"
#: Where a run is kept and goes on say nothing about what it reaches.
_PLACES = ("out", "resume")
#: Where a run starts from; one that goes on does not have them any more.
_STARTS = ("init", "weights", "new_head", "sum_channels")


@dataclass(frozen=True)
class Outcome:
    """What one run of a sweep reached.

    Attributes:
        settings: of the run.
        history: one row per epoch, as in `Result`.
    """

    settings: Settings
    history: tuple[Row, ...]

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy on the test images after the last epoch, in [0, 1]; of a run for classes."""
        return self.history[-1]["val/acc"]


def sweep(
    runs: Mapping[str, Settings],
    folder: Path,
    *,
    jobs: int = 1,
    on_epoch: Callable[[str, Row], None] | None = None,
    on_done: Callable[[str, Outcome], None] | None = None,
) -> dict[str, Outcome]:
    """Train every run into its own folder below `folder`, and return their outcomes in the order of `runs`.

    A run that is done is not trained again, and one that was interrupted goes on from its last checkpoint.

    Args:
        runs: settings by name. Their out and resume are set here.
        jobs: runs to train at the same time, each in a process of its own with its share of the cores. Small nets use
            the cores better that way.
        on_epoch: called with the name and the new row after each epoch; only with jobs=1.
        on_done: called with the name and the outcome of each run, also of those that were done before.

    Raises:
        ValueError: jobs below 1, or a folder that holds a run of that name with other settings.
        Whatever `fit` raises.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    outcomes: dict[str, Outcome] = {}

    def done(name: str, outcome: Outcome) -> None:
        outcomes[name] = outcome
        if on_done is not None:
            on_done(name, outcome)

    pending = {}
    for name, settings in runs.items():
        outcome = begun_run(folder / name, settings)  # an error in any run shall come before the first is trained
        if outcome is None:
            pending[name] = settings
        else:
            done(name, outcome)
    if jobs == 1:
        for name, settings in pending.items():
            done(name, train_run(folder / name, settings, None if on_epoch is None else _bind(on_epoch, name)))
    elif pending:
        _train_in_processes(pending, folder, jobs, done)
    return {name: outcomes[name] for name in runs}


def read_outcome(folder: Path) -> Outcome | None:
    """Return what a run of a sweep reached, by its own folder; None of one that is not done.

    The settings have neither out nor resume.

    Raises:
        ValueError: what the folder holds is damaged.
    """
    path = folder / _OUTCOME
    if not path.is_file():
        return None
    try:
        content = Part(parse_json(read_text(path)), "")
        history = tuple({name: number.number() for name, number in row.items()} for row in content["history"].list())
        if not history or "val/loss" not in history[-1]:
            raise ValueError("its history lacks val/loss")
        # By way of Settings, which has the defaults of fields that are younger than the file.
        settings: Settings = content["settings"].plain(Settings.from_dict)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; delete it, and the run's last.ckpt gives it again") from None
    return Outcome(settings, history)


def begun_run(folder: Path, settings: Settings) -> Outcome | None:
    """Return what a run of a sweep reached, by its own folder and its settings; None of one that is not done.

    Raises:
        ValueError: the folder holds a run with other settings, done or not, or is damaged.
    """
    outcome = read_outcome(folder)
    if outcome is None:
        _read_last(folder, settings)
        return None
    _check_same_run(folder, outcome.settings, settings)
    return Outcome(settings, outcome.history)


def train_run(folder: Path, settings: Settings, on_epoch: Callable[[Row], None] | None = None) -> Outcome:
    """Train a run of a sweep in its own folder, from its last checkpoint if it was begun, and keep what it reached.

    Raises:
        ValueError: the folder holds a run with other settings. Whatever `fit` raises.
    """
    checkpoint = _read_last(folder, settings)
    if checkpoint is None:
        run = dataclasses.replace(settings, out=folder, resume=None)
    else:
        run = dataclasses.replace(settings.without_places(), out=folder, resume=checkpoint.path)
    if checkpoint is not None and checkpoint.epoch >= settings.epochs:  # stopped just before the outcome was written
        history = checkpoint.history
    else:
        history = fit(run, on_epoch=on_epoch, show=False).history
    if is_first_process():
        content = json.dumps({"settings": _identity(settings), "history": list(history)}, indent=1)
        write_atomically(folder / _OUTCOME, lambda file: file.write(content.encode()))
    return Outcome(settings, tuple(history))


def _train_in_processes(
    runs: Mapping[str, Settings], folder: Path, jobs: int, done: Callable[[str, Outcome], None]
) -> None:
    threads = max(1, torch.get_num_threads() // jobs)
    waiting = iter(runs.items())
    # spawn: a forked child would inherit PyTorch's thread pool without its threads.
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        try:
            # A run is handed over when a process is free for it, because the pool cannot take back what it has queued
            # for its processes: after Ctrl-C, or after an error, those runs would be trained all the same.
            running = {pool.submit(train_run, folder / name, run): name for name, run in islice(waiting, jobs)}
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done(running.pop(future), future.result())
                    running |= {pool.submit(train_run, folder / name, run): name for name, run in islice(waiting, 1)}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _bind(on_epoch: Callable[[str, Row], None], name: str) -> Callable[[Row], None]:
    return lambda row: on_epoch(name, row)


def _identity(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in settings.to_dict().items() if name not in _PLACES}


def _read_last(folder: Path, settings: Settings) -> Checkpoint | None:
    """Return the checkpoint of a run that was begun, None if it was not; ValueError if it has other settings."""
    path = folder / "last.ckpt"
    if not path.is_file():
        return None
    checkpoint = read_checkpoint(path)
    _check_same_run(folder, checkpoint.settings, settings)
    return checkpoint


def _check_same_run(folder: Path, before: Settings | None, now: Settings) -> None:
    if before is not None and before.resume is not None:
        now = dataclasses.replace(now, **{name: getattr(before, name) for name in _STARTS})
    if before is None or _identity(before) != _identity(now):
        raise ValueError(f"{folder} holds a run with other settings; choose another folder, or delete it to train anew")
