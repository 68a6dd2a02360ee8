"""One run of a sweep, in whichever process it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..temporary_file import locked
from ..train.guard import NonFiniteError
from ..train.settings import Settings
from ..train.sweep import Outcome, begun_run, train_run

_LOCK = ".lock"


@dataclass(frozen=True)
class Failure:
    """Why a run has reached nothing.

    Attributes:
        error: for people.
        is_of_the_run: it comes of the settings, and would come again; else of a machine, and the run may go on.
    """

    error: str
    is_of_the_run: bool


#: What becomes of a run.
Ended = Outcome | Failure
#: Trains runs, by name, and calls the second argument with the name and the end of each as soon as it has one.
Runner = Callable[[Mapping[str, Settings], Callable[[str, Ended], None]], None]


def train_trial(folder: Path, settings: Settings, *, cpus: int) -> Ended:
    """Train a run on so many threads, or go on with it, or read what it reached, by its folder.

    While another process trains in that folder, this one waits: on a cluster that of a killed sweep may live on for
    some seconds.

    Args:
        folder: of this run alone.
        settings: of the run.
        cpus: threads of PyTorch. The last bits of sums depend on their number, so it is never the machine's.

    Raises:
        Interrupted: a signal stopped it, with a checkpoint. What is a bug, and no error of settings, data or machine.
    """
    torch.set_num_threads(cpus)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("ab") as file, locked(file):
            outcome = begun_run(folder, settings)
            return train_run(folder, settings) if outcome is None else outcome
    except (NonFiniteError, ValueError, TypeError, ImportError) as error:
        return Failure(str(error), is_of_the_run=True)
    except (OSError, RuntimeError, MemoryError) as error:  # a full disk, a GPU without memory
        return Failure(f"{type(error).__name__}: {error}", is_of_the_run=False)
