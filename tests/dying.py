"""Processes that die in the middle of a run, as those of a machine that is short of memory do."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path


def die_once(run: Path) -> None:
    """Kill this process as soon as a run has a checkpoint, unless that has been done before."""

    def watch() -> None:
        _wait_for(run / "last.ckpt")
        if _is_first(run.parent / f"{run.name}.died"):
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def die_always(run: Path) -> None:
    """Kill this process as soon as it begins a run: it never gets further."""

    def watch() -> None:
        lock = run / ".lock"
        _wait_for(lock)
        lock.unlink()  # so that processes with other runs live
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def nothing() -> None:
    """Let the process live."""


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def _is_first(died: Path) -> bool:
    try:
        died.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
