"""The pool of threads: the checks written in C++, the default number, and what Python may ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bitorch_runtime
from test_objects import DEFAULT_BUILD

CHECK = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "check_threads"


def test_pool() -> None:
    """Each part exactly once, several callers, nested calls, changes of size, forks: csrc/tools/check_threads.cpp."""
    done = subprocess.run([CHECK], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "threads: all checks passed\n"), done.stderr


def limit(tmp_path: Path, groups: str) -> int:
    listing = tmp_path / "cgroup"
    listing.write_text(groups)
    done = subprocess.run([CHECK, "--cgroup", listing, tmp_path / "mount"], capture_output=True, text=True, check=True)
    return int(done.stdout)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", 0), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("", 0)]
)
def test_quota_of_cgroups_version_2(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path / "mount/a/b/cpu.max", quota + "\n")
    assert limit(tmp_path, "0::/a/b\n") == cpus


def test_the_smallest_quota_of_all_parents_counts(tmp_path: Path) -> None:
    write(tmp_path / "mount/a/b/cpu.max", "800000 100000\n")
    write(tmp_path / "mount/a/cpu.max", "300000 100000\n")
    write(tmp_path / "mount/cpu.max", "max 100000\n")
    assert limit(tmp_path, "0::/a/b\n") == 3


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 0), ("250000", 3)])
def test_quota_of_cgroups_version_1(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path / "mount/cpu/cpu.cfs_quota_us", quota)
    write(tmp_path / "mount/cpu/cpu.cfs_period_us", "100000")
    # Inside a container the path is the host's, and does not exist.
    assert limit(tmp_path, "9:memory:/x\n4:cpuacct,cpu:/docker/123\n1:name=systemd:/\n") == cpus


def test_no_quota(tmp_path: Path) -> None:
    assert limit(tmp_path, "4:cpuset:/\nnonsense\n") == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_default_is_the_cpus_that_the_process_may_use() -> None:
    code = "import os, bitorch_runtime as b\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "print(b.get_num_threads())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_set_num_threads() -> None:
    before = bitorch_runtime.get_num_threads()
    try:
        bitorch_runtime.set_num_threads(7)
        assert bitorch_runtime.get_num_threads() == 7
        assert bitorch_runtime.cpu()["threads"] == 7
    finally:
        bitorch_runtime.set_num_threads(before)


@pytest.mark.parametrize("n", [0, -1, 257, 10**30, -(2**31) - 1])
def test_numbers_out_of_range_are_refused(n: int) -> None:
    before = bitorch_runtime.get_num_threads()
    with pytest.raises(ValueError, match=rf"{n}.*1 to 256"):
        bitorch_runtime.set_num_threads(n)
    assert bitorch_runtime.get_num_threads() == before


@pytest.mark.parametrize("n", [1.0, "2", None, True])
def test_what_is_no_integer_is_refused(n: object) -> None:
    with pytest.raises(TypeError, match="must be an int"):
        bitorch_runtime.set_num_threads(n)  # type: ignore[arg-type]
