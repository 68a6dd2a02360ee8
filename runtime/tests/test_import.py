"""The runtime needs NumPy and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = ("torch", "bitorch", "lightning", "safetensors", "scipy")


def test_it_works_where_torch_is_not_installed() -> None:
    code = (
        "import sys\n"
        f"for name in {BLOCKED}: sys.modules[name] = None  # importing it raises ImportError\n"
        "import bitorch_runtime, numpy\n"
        "weight = numpy.array([[1, -1, 1], [-1, -1, -1]])\n"
        "linear = bitorch_runtime.Linear(weight, weight_bits=1, activation_bits=2)\n"
        "print(linear(numpy.array([[3, 1, 2]], numpy.uint8)).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[[4,", "-6]]"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_import_does_no_work() -> None:
    """No thread is started, and no warning given, before something is asked for."""
    code = "import threading, os, bitorch_runtime\nprint(len(os.listdir('/proc/self/task')))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env={"OPENBLAS_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"


def test_all_public_names_are_there() -> None:
    import bitorch_runtime

    missing = [name for name in bitorch_runtime.__all__ if not hasattr(bitorch_runtime, name)]
    assert missing == []
    expected = {"Program", "Conv2d", "Linear", "pack_weights", "unpack_weights", "cpu", "set_num_threads"}
    expected |= {"get_num_threads", "reference", "format", "load", "save", "Model", "Profile", "__version__"}
    assert expected <= set(bitorch_runtime.__all__)
