"""Runs in processes of this machine: each process trains one after the other, and one that dies is replaced."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from ..train.settings import Settings
from .trial import Ended, Failure, train_trial

#: What Ctrl-C in a terminal has told to the processes, too, takes until a step and a checkpoint are done.
_SECONDS_TO_STOP = 20


@dataclass(frozen=True)
class LocalRunner:
    """Trains runs in processes of this machine.

    Attributes:
        folder: of the sweep; a run has that of its name below.
        jobs: processes.
        cpus: threads of each.
        gpus: 0 or 1 for each; those of this machine are dealt out.
        retries: how often a run whose process has died is begun again, from its last checkpoint.
        prepare: is called in each process before its first run; it can be pickled.

    Raises:
        ValueError: jobs below 1, retries below 0, or more cores or GPUs than this machine has.
    """

    folder: Path
    jobs: int
    cpus: int
    gpus: int
    retries: int
    prepare: Callable[[], None]

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {self.jobs}")
        if self.retries < 0:
            raise ValueError(f"retries must be at least 0, got {self.retries}")
        cores = _usable_cores()
        if self.cpus > cores:
            raise ValueError(f"cpus must be at most {cores}, the cores of this machine, got {self.cpus}")
        if self.gpus * self.jobs > torch.cuda.device_count():
            raise ValueError(
                f"each of {self.jobs} jobs takes {self.gpus} GPU, and PyTorch finds {torch.cuda.device_count()} here; "
                "lower jobs, or say `gpus: 0`"
            )

    def __call__(self, runs: Mapping[str, Settings], on_end: Callable[[str, Ended], None]) -> None:
        """Train the runs, and tell the end of each; errors of `on_end` end all."""
        waiting = deque(runs)
        deaths: Counter[str] = Counter()
        with self._workers() as workers:
            while waiting or any(worker.name for worker in workers.values()):
                for slot in range(self.jobs):
                    if waiting and workers[slot].name is None:
                        name = waiting.popleft()
                        workers[slot].give(name, self.folder / name, runs[name])
                for slot in _answered(workers):
                    name, ended = workers[slot].take()
                    if isinstance(ended, int):
                        workers[slot] = self._worker(slot)
                        deaths[name] += 1
                        if deaths[name] <= self.retries:
                            waiting.appendleft(name)
                            continue
                        ended = Failure(f"{_how_it_died(ended)}, {_times(deaths[name])}", is_of_the_run=False)
                    on_end(name, ended)

    @contextmanager
    def _workers(self) -> Iterator[dict[int, _Worker]]:
        workers = {slot: self._worker(slot) for slot in range(self.jobs)}
        try:
            yield workers
        finally:
            for worker in workers.values():
                worker.connection.close()
            for worker in workers.values():
                worker.end()

    def _worker(self, slot: int) -> _Worker:
        return _Worker(self.cpus, _gpus()[slot] if self.gpus else "", self.prepare)


def most_jobs(cpus: int, gpus: int) -> int:
    """Return how many runs this machine has cores and GPUs for at the same time; 1 at least."""
    jobs = _usable_cores() // cpus
    return max(1, min(jobs, torch.cuda.device_count()) if gpus else jobs)


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 1 if cores is None else cores


def _gpus() -> list[str]:
    """Return what the GPUs that this process may use are called in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(torch.cuda.device_count())] if visible is None else visible.split(",")


class _Worker:
    """A process that trains what it is given. It is started with its first run.

    Attributes:
        name: of the run that it trains, None of one that is free.
    """

    def __init__(self, cpus: int, gpus: str, prepare: Callable[[], None]) -> None:
        # spawn: a forked child would inherit PyTorch's thread pool without its threads.
        context = get_context("spawn")
        self.connection, self._other_end = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(self._other_end, cpus, gpus, prepare))
        self.name: str | None = None

    def give(self, name: str, folder: Path, settings: Settings) -> None:
        """Let the process train a run."""
        if self.process.pid is None:
            self.process.start()
            self._other_end.close()  # so that the connection ends with the process
        self.name = name
        # A process that has just died is noticed by `take`.
        try:
            self.connection.send((folder, settings))
        except BrokenPipeError:
            return

    def take(self) -> tuple[str, Ended | int]:
        """Return the name of the run and its end, or the exit code of a process that died over it."""
        assert self.name is not None  # as it has answered
        name, self.name = self.name, None
        try:
            return name, self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            self.connection.close()
            assert self.process.exitcode is not None  # as it has ended
            return name, self.process.exitcode

    def end(self) -> None:
        """Wait until the process has stopped; make it stop if it goes on."""
        if self.process.pid is None:
            self._other_end.close()
            return
        if self.name is not None:
            self.process.join(_SECONDS_TO_STOP)
            self.process.terminate()
        self.process.join()


def _answered(workers: Mapping[int, _Worker]) -> list[int]:
    """Wait until a process that trains has an end to tell, or is dead, and return where those are."""
    busy = {slot: worker.connection for slot, worker in workers.items() if worker.name is not None}
    ready = wait(busy.values())
    return [slot for slot, connection in busy.items() if connection in ready]


def _serve(connection: Connection, cpus: int, gpus: str, prepare: Callable[[], None]) -> None:
    """What a process does: train what comes through the connection, until it is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    try:
        prepare()
        while True:
            folder, settings = connection.recv()
            connection.send(train_trial(folder, settings, cpus=cpus))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _end_with_parent() -> None:
    """End this process when the sweep has ended, be it by SIGKILL: files are whole at any time."""
    parent = parent_process()
    assert parent is not None  # as this process was started by one
    parent.join()
    os._exit(1)


def _how_it_died(exit_code: int) -> str:
    if exit_code < 0:
        return f"its process was killed by {signal.Signals(-exit_code).name}"
    return f"its process ended with code {exit_code}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
