"""What all tests need."""

from __future__ import annotations

import logging
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from bitorch.signal_stack import kept_signal_stack
from bitorch.torchvision_operators import import_torchvision_if_installed

# Tests that import Lightning by themselves need what `bitorch.train` does first.
import_torchvision_if_installed()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what `one_in` leaves to `make sweep`, before pytest looks for the mark."""
    seen: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("one_in")
        if marker is not None:
            test = item.nodeid.partition("[")[0]
            if seen[test] % marker.args[0] > 0:
                item.add_marker(pytest.mark.slow)
            seen[test] += 1


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remember what tests run in a folder of theirs, and not in the user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> None:
    """Take SIGINT as in a terminal: a shell's background jobs ignore it, and so would processes that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _logs_are_quiet() -> None:
    """Give messages a handler: those without one go to stderr, where tests look for other words."""
    logging.getLogger().addHandler(logging.NullHandler())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let each test draw the same numbers, whichever ran before it in the same process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - that of code which uses it
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _signals_have_room() -> Iterator[None]:
    """Let no test leave another stack for signals: OpenVINO's is too small for Python's handlers."""
    with kept_signal_stack():
        yield
