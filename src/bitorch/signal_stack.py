"""The stack that signals are handled on, kept as it was while a library is loaded that puts another one there."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """stack_t of <signal.h>, as Linux has it."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give this thread the alternate stack back that it had.

    OpenVINO's CPU plugin puts one in its place that is too small for Python's handlers on CPUs with large registers
    (AVX-512, AMX): the process would die of the next signal, such as that of a data loader's worker which has ended.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before = SignalStack()
    libc = ctypes.CDLL(None)
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
