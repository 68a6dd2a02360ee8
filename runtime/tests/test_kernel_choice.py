"""Which kernel each kind of layer gets, with every table of kernels that this CPU runs, and that it is a fast one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import bitorch_runtime
from cases import random_case
from dump_cases import dump
from test_objects import DEFAULT_BUILD

WORKER = Path(__file__).with_name("kernel_of_layers.py")
KERNELS = bitorch_runtime.cpu()["kernels"]
#: In the order of `kernel_of_layers.BITS`: W1A1, W1A2, W2A2, W4A4, W8A8, float.
CHOICE: Mapping[str, Mapping[str, str]] = {
    "portable": {
        "3×3": "popcount popcount bytes bytes words float",
        "1×1": "popcount popcount bytes bytes words float",
        "linear": "popcount popcount popcount bytes words float",
    },
    "avx2": {
        "3×3": "tables tables tables bytes words float",
        "1×1": "popcount popcount popcount bytes words float",
        "linear": "popcount popcount popcount bytes words float",
    },
    "avx512": {
        "3×3": "popcount bytes bytes bytes bytes float",
        "1×1": "popcount bytes bytes bytes bytes float",
        "linear": "popcount popcount popcount bytes bytes float",
    },
    "avx512-vpopcntdq": {
        "3×3": "popcount tables tables bytes bytes float",
        "1×1": "popcount popcount popcount bytes bytes float",
        "linear": "popcount popcount popcount bytes bytes float",
    },
}
CHOICE = {**CHOICE, "avx512-amx": CHOICE["avx512-vpopcntdq"]}  # but for fused kernels, which these layers have none of
DEPTHWISE = "depthwise depthwise depthwise depthwise depthwise depthwise"
#: Of the kernels' names: how they begin on each instruction set. A table may have a kernel of the smaller one.
SUFFIXES = {
    "avx2": "avx2",
    "avx512": "avx512",
    "avx512-vpopcntdq": "avx512",
    "avx512-amx": "avx512",
    "neon": "neon",
    "neon-dotprod": "neon",
}

Found = Mapping[str, tuple[str, str]]


def found_with(kernels: str) -> Found:
    environment = os.environ | {"BITORCH_KERNEL": kernels, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(WORKER)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Found = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module", params=KERNELS)
def measured(request: pytest.FixtureRequest) -> tuple[str, Found]:
    return request.param, found_with(request.param)


def test_every_layer_gets_its_kernel(measured: tuple[str, Found]) -> None:
    kernels, found = measured
    if kernels not in CHOICE:
        pytest.skip(f"the choice of {kernels} is not written down")
    for layer, expected in {**CHOICE[kernels], "depthwise": DEPTHWISE}.items():
        methods = [planned.split()[0] for name, (planned, _) in found.items() if name.split()[0] == layer]
        assert methods == expected.split(), layer


def test_no_layer_falls_back_to_portable_kernels(measured: tuple[str, Found]) -> None:
    kernels, found = measured
    expected = SUFFIXES.get(kernels, "portable")
    for name, (planned, profiled) in found.items():
        assert planned.split()[-1].startswith(expected), name
        assert profiled == planned, name


def test_what_is_planned_runs(tmp_path: Path) -> None:
    """run_cases counts the calls of each dot product, on every table."""
    for seed in range(60):
        dump(random_case(seed), seed, tmp_path / f"case-{seed:02}.safetensors")
    check = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "run_cases"
    done = subprocess.run([check, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(": 60 cases")[0] for line in done.stdout.splitlines()] == list(KERNELS)
