"""Processes that die in the middle of a run, as those of a machine that is short of memory do."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path


def die_once(run: Path) -> None:
    """Kill this process as soon as a run has a checkpoint, unless that has been done before."""
    _watch(run, run.parent / f"{run.name}.died")


def die_always(run: Path) -> None:
    """Kill this process as soon as the lock of a run is there: it never gets further."""
    _watch(run, None)


def _watch(run: Path, died: Path | None) -> None:
    def watch() -> None:
        while not (run / (".lock" if died is None else "last.ckpt")).exists():
            time.sleep(0.01)
        if died is None or _is_first(died):
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _is_first(died: Path) -> bool:
    try:
        died.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
