"""Random programs with every kernel that this CPU can run, each forced in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bitorch_runtime

KERNELS = bitorch_runtime.cpu()["kernels"]
WORKER = Path(__file__).with_name("check_cases.py")


def check(kernel: str, first: int, count: int, *more: str) -> str:
    """Check the cases of `count` seeds in a process that uses `kernel`; fails with what the process prints."""
    command = [sys.executable, str(WORKER), "--first", str(first), "--count", str(count), *more]
    environment = os.environ | {"BITORCH_KERNEL": kernel, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{kernel}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("kernel", KERNELS)
def test_random_programs(kernel: str) -> None:
    """384 seeds: each pair of bit widths three times as a single layer, and as many whole programs."""
    assert f"{kernel}: 384 cases, 0 failed" in check(kernel, 0, 384)


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_programs(kernel: str) -> None:
    """Such that several threads share the work."""
    assert f"{kernel}: 40 cases, 0 failed" in check(kernel, 0, 40, "--large")


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(10))
@pytest.mark.parametrize("kernel", KERNELS)
def test_sweep(kernel: str, shard: int, capsys: pytest.CaptureFixture[str]) -> None:
    """20480 more seeds per kernel and 1000 large ones, in ten parts."""
    report = check(kernel, 1000 * 128 + shard * 2048, 2048) + check(kernel, 1000 + shard * 100, 100, "--large")
    with capsys.disabled():
        print(f"\n{report}", end="")


def test_unknown_kernels_are_refused() -> None:
    """A misspelt name, or a kernel of another CPU, must not fall back to a slow one in silence."""
    code = "import bitorch_runtime; bitorch_runtime.cpu(); from cases import random_case; c = random_case(0)\n"
    code += "bitorch_runtime.Program(c.operations, c.arrays)"
    environment = os.environ | {"BITORCH_KERNEL": "avx1024"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=WORKER.parent
    )
    assert done.returncode == 1
    assert "avx1024" in done.stderr
    assert "portable" in done.stderr
