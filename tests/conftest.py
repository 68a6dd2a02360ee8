"""What all tests need."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from bitorch.torchvision_operators import import_torchvision_if_installed

# Tests that import Lightning by themselves need what `bitorch.train` does first.
import_torchvision_if_installed()


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remember what tests run in a folder of theirs, and not in the user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> None:
    """Take SIGINT as in a terminal: a shell's background jobs ignore it, and so would processes that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let each test draw the same numbers, whichever ran before it in the same process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - that of code which uses it
    torch.manual_seed(0)


class _SignalStack(ctypes.Structure):
    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.fixture(autouse=True)
def _signals_have_room() -> Iterator[None]:
    """Take away OpenVINO's stack for signals, which is too small for Python's handlers on CPUs with AMX.

    The process would die of the next signal, such as that of a worker process that has ended.
    """
    yield
    if "openvino" in sys.modules and sys.platform == "linux":
        disabled = 2
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(_SignalStack(flags=disabled)), None) == 0
