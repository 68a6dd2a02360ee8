"""bitorch_runtime.cpu() and the environment variable BITORCH_KERNEL."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import bitorch_runtime

KERNELS = bitorch_runtime.cpu()["kernels"]


def cpu_with(kernel: str) -> subprocess.CompletedProcess[str]:
    code = "import json, bitorch_runtime\nprint(json.dumps(bitorch_runtime.cpu()))"
    environment = os.environ | {"BITORCH_KERNEL": kernel}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_without_a_name_the_fastest_is_chosen() -> None:
    cpu = json.loads(cpu_with("").stdout)
    assert cpu["kernels"][0] == "portable"
    assert cpu["kernel"] == cpu["kernels"][-1]
    assert cpu["reason"] == "fastest of " + ", ".join(cpu["kernels"])
    assert cpu["name"].strip() == cpu["name"] != ""
    assert 1 <= cpu["cpus"] <= (os.cpu_count() or 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_name_is_obeyed(kernel: str) -> None:
    cpu = json.loads(cpu_with(kernel).stdout)
    assert (cpu["kernel"], cpu["reason"]) == (kernel, "BITORCH_KERNEL")


@pytest.mark.parametrize("kernel", ["avx1024", "AVX2", " portable", "kernel\nname"])
def test_unknown_names_are_refused(kernel: str) -> None:
    done = cpu_with(kernel)
    assert done.returncode == 1
    assert f"ValueError: BITORCH_KERNEL='{kernel}' is no name of kernels" in done.stderr
    assert ", ".join(KERNELS) in done.stderr


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux says there which flags a CPU has")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of the flags are those of x86")
def test_flags_agree_with_the_operating_system() -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = next(line for line in lines if line.startswith("flags")).replace("_", "").split(":")[1].split()
    named = {"bmi": "bmi1"}  # where Linux says otherwise
    flags = bitorch_runtime.cpu()["flags"]
    assert {named.get(flag, flag) for flag in flags} <= set(known)
    assert ("avx512f" in known) == ("avx512f" in flags)
    assert ("avx2" in KERNELS) == {"avx2", "fma", "popcnt", "bmi1", "bmi2"}.issubset(known)
    assert ("avx512" in KERNELS) == {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"}.issubset(known)
