"""Operations made of specs, without a description."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from test_objects import DEFAULT_BUILD


def test_a_network_of_specs_alone() -> None:
    """Input, convolution, max_pool and output on every kernel table: csrc/tools/check_specs.cpp."""
    check = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "check_specs"
    done = subprocess.run([check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("specs: a network without a description gives what it must")
