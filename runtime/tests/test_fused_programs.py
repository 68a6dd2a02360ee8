"""Operations that run as one, and tensors that are parts of others, change no number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Program, reference
from cases import random_case
from fused_programs import PROGRAMS, Net, digests


def results(net: Net, threads: int) -> dict[str, np.ndarray[Any, Any]]:
    program = Program(net.operations, net.arrays)
    before = bitorch_runtime.get_num_threads()
    bitorch_runtime.set_num_threads(threads)
    try:
        given = program(net.inputs)
    finally:
        bitorch_runtime.set_num_threads(before)
    return given if isinstance(given, dict) else {program.outputs[0]["name"]: given}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_the_references(name: str, threads: int) -> None:
    net = PROGRAMS[name]
    expected = reference.run(net.operations, net.arrays, net.inputs)
    given = results(net, threads)
    wanted = expected if isinstance(expected, dict) else dict.fromkeys(given, expected)
    for tensor, array in given.items():
        np.testing.assert_array_equal(array, wanted[tensor], tensor)


def test_numbers_are_those_of_operations_one_by_one() -> None:
    """Also of random programs; in another process, since BITORCH_FUSED is read once."""
    command = [sys.executable, "fused_programs.py"]
    environment = {**os.environ, "BITORCH_FUSED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == digests()


def kernels(name: str) -> list[str]:
    net = PROGRAMS[name]
    return [entry["kernel"] for entry in Program(net.operations, net.arrays).operations()]


def stems(name: str) -> list[bool]:
    """Which of the kernels that the first layer may take are for first layers: all of them where it pools, too."""
    net = PROGRAMS[name]
    choices = Program(net.operations, net.arrays).operations()[1]["choices"]
    return [choice["kernel"].startswith("stem") for choice in choices]


@pytest.mark.skipif(os.environ.get("BITORCH_FUSED") == "0", reason="all operations run alone")
def test_pools_of_sums() -> None:
    """Not where an offset is -0, infinite or NaN: a window's largest result might not be that of one sum."""
    if not any(stems("stem 3 7 3")):
        pytest.skip("these kernels have none for first layers")
    for name in ("stem 3 7 3", "stem 4 5 2", "pooled codes 3 32 3 2"):
        assert all(stems(name)), name
        assert kernels(name)[2] == "in operation 1 (conv2d)", name
    for name in ("stem with negative zeros", "stem with infinite offsets", "stem with NaN"):
        assert not all(stems(name)), name


@pytest.mark.skipif(os.environ.get("BITORCH_FUSED") == "0", reason="all operations run alone")
def test_what_is_fused() -> None:
    """Else the other tests here would say nothing."""
    assert kernels("gated 7")[4:7] == ["in operation 3 (mul)"] * 3
    assert kernels("squeezed 40 silu")[2:4] == ["in operation 1 (conv2d)"] * 2
    assert kernels("squeezed 33 hardswish")[3] == "in operation 2 (activation)"
    assert kernels("squeezed 72")[2] == "in operation 1 (conv2d)"
    assert kernels("stem 3 7 3")[2] == "in operation 1 (conv2d)"
    assert kernels("stem with NaN")[2:4] == ["in operation 1 (conv2d)"] * 2
    for name, count in {"dense 32 1": 2, "dense 5 3": 2, "nested 16": 1, "nested 3": 1, "fire 24 5": 1}.items():
        assert kernels(name).count("in place") == count, name


@pytest.mark.skipif(os.environ.get("BITORCH_FUSED") == "0", reason="all operations run alone")
def test_profile_of_a_chain() -> None:
    """The first of it has the time of all."""
    net = PROGRAMS["stem with NaN"]
    profile = Program(net.operations, net.arrays).profile(net.inputs, repeats=1)
    assert [entry["seconds"] > 0 for entry in profile] == [True, True, False, False, True]


def test_workspace_holds_no_tensor_within_a_chain() -> None:
    net = PROGRAMS["stem 3 7 3"]
    program = Program(net.operations, net.arrays)
    shown = Program([*net.operations, {"op": "output", "input": "t1", "order": "nhwc"}], net.arrays)
    floats = 31 * 38 * 40 * 4
    fused = os.environ.get("BITORCH_FUSED") != "0"
    assert (shown.workspace_bytes(3) - program.workspace_bytes(3) > floats) == fused


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(400))
def test_random_programs(seed: int) -> None:
    case = random_case(10_000 + seed)
    assert case.differences(Program(case.operations, case.arrays)(*case.inputs)) == []
