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
    named = {"bmi": "bmi1", "amx-tile": "amxtile", "amx-int8": "amxint8"}  # where Linux says otherwise
    flags = bitorch_runtime.cpu()["flags"]
    assert {named.get(flag, flag) for flag in flags} <= set(known)
    assert ("avx512f" in known) == ("avx512f" in flags)
    assert ("avx2" in KERNELS) == {"avx2", "fma", "popcnt", "bmi1", "bmi2"}.issubset(known)
    assert ("avx512" in KERNELS) == {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"}.issubset(known)
    if "avx512-amx" in KERNELS:
        assert {"avx512vpopcntdq", "amxtile", "amxint8"}.issubset(known)


#: Gives its thread a stack for signals that has no room for the registers of AMX, whose use Linux then refuses.
SMALL_SIGNAL_STACK = """
import ctypes, json
class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(4096)
stack = Stack(ctypes.addressof(memory), 0, len(memory))
assert ctypes.CDLL(None, use_errno=True).sigaltstack(ctypes.byref(stack), None) == 0
import bitorch_runtime
print(json.dumps(bitorch_runtime.cpu()))
"""


@pytest.mark.skipif("avx512-amx" not in KERNELS, reason="this CPU has no AMX, or its use is refused already")
def test_amx_is_used_only_where_linux_allows_it() -> None:
    done = subprocess.run([sys.executable, "-c", SMALL_SIGNAL_STACK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cpu = json.loads(done.stdout)
    assert cpu["kernels"] == [name for name in KERNELS if name != "avx512-amx"]
    assert {"amx-tile", "amx-int8"}.isdisjoint(cpu["flags"])
