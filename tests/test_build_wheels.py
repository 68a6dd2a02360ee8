"""Which Python builds which wheel, and what a wheel's name says; building them takes `make wheels check-wheels`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from build_wheels import ROOT, STABLE, builders, by_release, glibc_of, release_of

PATHS = {(3, minor): Path(f"python3.{minor}") for minor in range(10, 15)}


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ([10, 11, 12, 13], {10: 10, 11: 11, 12: 12}),
        ([11, 13, 14], {11: 11, 12: 13}),
        ([14], {12: 14}),
        ([10], {10: 10}),
    ],
)
def test_one_wheel_is_for_all_newer_pythons(there: list[int], chosen: dict[int, int]) -> None:
    pythons = {(3, minor): PATHS[3, minor] for minor in there}
    assert builders(pythons) == {(3, oldest): PATHS[3, builder] for oldest, builder in chosen.items()}


def test_the_oldest_of_them_is_that_of_the_project() -> None:
    text = (ROOT / "runtime" / "pyproject.toml").read_text(encoding="utf-8")
    assert 'wheel.py-api = "cp{}{}"'.format(*STABLE) in text


def test_what_does_not_run_builds_nothing(tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3 9\n")
    old.chmod(0o755)
    assert release_of(shim) is None
    assert by_release([shim, old, tmp_path / "missing", Path(sys.executable)]) == {
        sys.version_info[:2]: Path(sys.executable)
    }


@pytest.mark.parametrize(
    ("name", "glibc"),
    [
        ("bitorch_runtime-0.1.0-cp312-abi3-manylinux_2_34_x86_64.whl", "2.34"),
        ("bitorch_runtime-0.1.0-cp310-cp310-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", "2.27"),
        ("bitorch_lowbit-0.1.0-py3-none-any.whl", ""),
    ],
)
def test_a_wheel_says_its_glibc(name: str, glibc: str) -> None:
    assert glibc_of(Path(name)) == glibc
