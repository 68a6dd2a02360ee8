"""What `bitorch doctor` finds out, on this machine and from the texts of others."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bitorch
import bitorch_runtime
from bitorch import doctor
from bitorch.cli import main
from bitorch.doctor import doctor_report, format_report, parse_cpuinfo, parse_sysctl

#: Distributions that a test takes away.
MISSING = ("bitorch-runtime", "matplotlib", "onnxruntime", "pillow", "rich")
X86_LINUX = """\
processor	: 0
model name	: Some CPU @ 3.00GHz
flags		: fpu sse sse2 popcnt avx2 avx512f avx512bw avx512vl avx512_vpopcntdq

processor	: 1
model name	: Another
flags		: fpu
"""
ARM_LINUX = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd aes crc32 asimddp i8mm
CPU part	: 0xd0c
Model		: Raspberry Pi 5
"""
ARM_MAC = """\
hw.optional.neon: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 0
machdep.cpu.brand_string: Apple M1
"""
INTEL_MAC = """\
machdep.cpu.brand_string: Intel(R) Core(TM) i7
machdep.cpu.features: FPU SSE POPCNT
machdep.cpu.leaf7_features: AVX2 AVX512F AVX512_VNNI
"""


def test_report_of_this_machine() -> None:
    report = doctor_report()
    assert json.loads(json.dumps(report)) == report
    assert report["versions"]["bitorch"] == bitorch.__version__
    assert report["versions"]["torch"] == torch.__version__
    assert report["versions"]["python"] == platform.python_version()
    assert report["versions"]["lightning"] is not None
    assert report["versions"]["pillow"] is not None
    assert report["abilities"]["train"] == {"available": True, "hint": ""}
    assert report["abilities"]["deploy"] == {"available": True, "hint": ""}
    cpu = bitorch_runtime.cpu()
    assert report["runtime"] == {name: cpu[name] for name in ("kernel", "reason", "threads")}
    assert f"kernels          {cpu['kernel']} ({cpu['reason']})" in format_report(report)
    assert report["cpu"]["usable_cores"] >= 1
    assert report["cpu"]["torch_threads"] == torch.get_num_threads()
    assert report["devices"][0]["type"] == "cpu"
    assert any(device["type"].startswith("cuda") for device in report["devices"]) == torch.cuda.is_available()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_features_agree_with_torch() -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    features = doctor_report()["cpu"]["features"]
    if features is not None and "avx512f" in features and "ATEN_CPU_CAPABILITY" not in os.environ:
        assert features["avx512f"] == (capability == "AVX512")


def test_x86_on_linux() -> None:
    model, features = parse_cpuinfo(X86_LINUX, "x86_64")
    assert model == "Some CPU @ 3.00GHz"
    assert features is not None
    has = {name for name, is_there in features.items() if is_there}
    assert has == {"popcnt", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512vpopcntdq"}
    assert set(features) - has == {"avx512vnni", "avx512vbmi"}


def test_arm_on_linux() -> None:
    features = {"neon": True, "dotprod": True, "i8mm": True, "sve": False}
    assert parse_cpuinfo(ARM_LINUX, "aarch64") == ("Raspberry Pi 5", features)


def test_macs() -> None:
    assert parse_sysctl(ARM_MAC, "arm64") == (
        "Apple M1",
        {"neon": True, "dotprod": True, "i8mm": False, "sve": False},
    )
    model, features = parse_sysctl(INTEL_MAC, "x86_64")
    assert model == "Intel(R) Core(TM) i7"
    assert features is not None
    assert {name for name, is_there in features.items() if is_there} == {"popcnt", "avx2", "avx512f", "avx512vnni"}


@pytest.mark.parametrize("parse", [parse_cpuinfo, parse_sysctl])
def test_what_cannot_be_found_out_is_unknown(parse: doctor.Parser) -> None:
    assert parse("", "x86_64") == ("unknown", None)
    assert parse_cpuinfo("isa : rv64imafdc\nmodel name : a RISC-V", "riscv64") == ("a RISC-V", None)


def test_missing_things_come_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed_version", lambda name: None if name in MISSING else "1.0")
    monkeypatch.setitem(sys.modules, "bitorch_runtime", None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    text = format_report(doctor_report())
    assert 'train            no: pillow, rich missing: pip install ".[train]" in a checkout of bitorch' in text
    assert 'plots            no: matplotlib missing: pip install ".[plots]" in a checkout of bitorch' in text
    assert 'bench            no: onnxruntime missing: pip install ".[bench]" in a checkout of bitorch' in text
    assert "deploy           no: bitorch_runtime missing: pip install ./runtime in a checkout of bitorch" in text
    assert "compile          no: torch.compile needs a C++ compiler, and g++, clang++, c++, cl cannot be found" in text
    assert "rich             not installed" in text
    assert "bitorch-runtime  not installed" in text
    assert "\n  kernels" not in text
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "and no-such-compiler cannot be found" in doctor_report()["abilities"]["compile"]["hint"]


def test_extras_are_those_of_the_package() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    for extra, names in doctor._EXTRAS.items():
        match = re.search(rf"^{extra} = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
        assert match is not None
        assert set(names) <= set(re.findall(r'"([a-z-]+)(?:\[\w+\])?>=', match[1]))


def test_kernels_that_the_cpu_does_not_have() -> None:
    environment = {**os.environ, "BITORCH_KERNEL": "abacus"}
    command = [sys.executable, "-m", "bitorch.cli", "doctor", "--json"]
    report = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert report["runtime"] is None
    assert not report["abilities"]["deploy"]["available"]
    assert "BITORCH_KERNEL='abacus' is no name of kernels" in report["abilities"]["deploy"]["hint"]


def test_container_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    for quota, cores in (("max 100000\n", 8), ("150000 100000\n", 2), ("1600000 100000\n", 8)):
        monkeypatch.setattr(Path, "read_text", lambda path, quota=quota: quota)
        assert doctor._usable_cores() == cores


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["bitorch"] == bitorch.__version__
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("versions\n  python")
