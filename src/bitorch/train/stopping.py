"""Ctrl-C and SIGTERM stop a run between two steps, so that nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, after its checkpoint was written.

    Attributes:
        checkpoint: where the run can be resumed.
        signal_number: SIGINT or SIGTERM.
    """

    def __init__(self, checkpoint: Path, signal_number: int) -> None:
        super().__init__(f"the run was stopped; its checkpoint is {checkpoint}")
        self.checkpoint = checkpoint
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[Path, int]]:
        """Pickle by the arguments, and not by the message, so that it can come out of another process."""
        return type(self), (self.checkpoint, self.signal_number)


class StopRequest:
    """Remembers the first SIGINT or SIGTERM; the second one acts as it would without us."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals inside. Signals belong to the main thread: in any other one nothing is taken."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def remember(number: int, frame: FrameType | None) -> None:
            self.signal_number = number
            signal.signal(number, previous[signal.Signals(number)])

        for number in previous:
            signal.signal(number, remember)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
