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


#: By machine: of layers as time_conv takes them, SIZE IN OUT KERNEL STRIDE W A, the kernel that their costs choose.
COSTS: Mapping[str, Mapping[str, str]] = {
    "zen5": {
        "56 64 64 3 1 1 2": "tables9",
        "14 256 256 3 1 1 2": "tables9",
        "14 256 256 3 1 2 2": "tables9",
        "56 64 256 1 1 1 2": "popcount8",
        "28 128 128 3 2 1 2": "popcount16",
        "56 16 96 1 1 1 2": "popcount8",
    },
    "zen4": {
        "56 64 64 3 1 1 2": "tables9",
        "56 64 256 1 1 1 2": "popcount8",
        "56 16 96 1 1 1 2": "popcount8",
    },
    "sapphirerapids": {
        "56 64 256 1 1 1 2": "popcount8",
        "14 256 256 3 1 1 2": "tables9",
        "56 16 96 1 1 1 2": "popcount8",
    },
}


@pytest.mark.skipif("avx512-vpopcntdq" not in KERNELS, reason="the kernels are those of AVX-512 with VPOPCNTDQ")
@pytest.mark.parametrize("machine", COSTS)
def test_costs_choose_the_kernels_that_were_the_fastest_on_each_machine(machine: str) -> None:
    for layer, expected in COSTS[machine].items():
        assert _reckoned(layer, machine)[0][0] == expected, layer


#: Microseconds measured on Zen 5 on the staged path, 3×3 layers: SIZE IN OUT KERNEL STRIDE W A, and how.
ZEN5: Mapping[str, tuple[str, float]] = {
    "56 64 64 3 1 1 2": ("tables", 132),
    "28 128 128 3 1 1 2": ("tables", 98),
    "14 256 256 3 1 1 2": ("tables", 82),
    "7 512 512 3 1 1 2": ("tables", 81),
    "14 256 256 3 1 2 2": ("tables", 151),
    "14 256 256 3 1 1 1": ("popcount", 44),
}


@pytest.mark.skipif("avx512-vpopcntdq" not in KERNELS, reason="the kernels are those of AVX-512 with VPOPCNTDQ")
@pytest.mark.parametrize("layer", ZEN5)
def test_costs_of_the_staged_path_are_what_was_measured(layer: str) -> None:
    method, measured = ZEN5[layer]
    assert dict(_reckoned(layer, "zen5"))[method] == pytest.approx(measured, rel=0.15)


def _reckoned(layer: str, machine: str) -> list[tuple[str, float]]:
    """Kernels that read bit planes, the cheapest first, and their microseconds."""
    tool = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "time_conv"
    options = ["--input", "planes", "--kernels", "avx512-vpopcntdq", "--machine", machine]
    done = subprocess.run([tool, *layer.split(), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "reckons" in line]
    return [(row[0], float(row[-2])) for row in rows]
