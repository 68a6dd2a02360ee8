"""The wheels in dist/ in empty environments of each Python, without a compiler: `make wheels check-wheels`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bitorch
from build_wheels import STABLE, find_pythons, glibc_of

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
PYTHONS = find_pythons()
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPILERS = ("cc", "gcc", "c++", "g++", "clang", "clang++")
#: x86-64 with SSE4.2 and nothing newer, which NumPy asks for: no AVX2, no FMA, no BMI.
OLD_CPU = "Nehalem"

pytestmark = [pytest.mark.slow, pytest.mark.wheels]

VERSIONS = """
from importlib.metadata import version
import bitorch, bitorch_runtime
print(version("bitorch-lowbit"), version("bitorch-runtime"), bitorch.__version__, bitorch_runtime.__version__)
"""
RUN = """
import json, sys
import numpy as np
import bitorch_runtime
images = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
np.save(sys.argv[2], bitorch_runtime.load(sys.argv[1])(images))
print(json.dumps(bitorch_runtime.cpu()["kernels"]))
"""


def wheels(release: tuple[int, int]) -> list[Path]:
    """The wheels that are meant for a Python, of which there must be one each."""
    tag = "cp312-abi3" if release >= STABLE else "cp{0}{1}-cp{0}{1}".format(*release)
    found = []
    for pattern in ("bitorch_lowbit-*-none-any.whl", f"bitorch_runtime-*-{tag}-*.whl"):
        matches = list(DIST.glob(pattern))
        assert len(matches) == 1, f"{DIST} has {len(matches)} of {pattern}, must have one: make wheels"
        found += matches
    return found


def snippet() -> str:
    found = re.search(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


class Empty:
    """An environment with a folder of its own, on whose PATH there is nothing else."""

    def __init__(self, folder: Path, python: Path) -> None:
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment |= {"PATH": str(self.bin), "OMP_NUM_THREADS": "1"}
        for name in ("CC", "CXX", "BITORCH_KERNEL"):
            self.environment.pop(name, None)

    def run(self, *command: str | Path, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python with these arguments; `before` is what runs it, an emulator."""
        return subprocess.run(
            [*before, self.bin / "python", *command],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def install(self, *what: str | Path) -> None:
        done = self.run("-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:", *what)
        assert done.returncode == 0, done.stderr


@pytest.fixture(params=[(3, 10), (3, 11), (3, 12), (3, 13)], ids="{0[0]}.{0[1]}".format)
def release(request: pytest.FixtureRequest) -> tuple[int, int]:
    wanted: tuple[int, int] = request.param
    if wanted not in PYTHONS:
        pytest.skip("there is no Python {}.{}".format(*wanted))
    return wanted


@pytest.fixture
def empty(release: tuple[int, int], tmp_path: Path) -> Iterator[Empty]:
    yield Empty(tmp_path, PYTHONS[release])
    shutil.rmtree(tmp_path / "venv")  # torch takes gigabytes


def test_readme_runs_where_there_is_no_compiler(release: tuple[int, int], empty: Empty) -> None:
    assert not [name for name in COMPILERS if shutil.which(name, path=str(empty.bin))]
    empty.install("torch==2.13.0", *wheels(release))
    assert empty.run("-c", VERSIONS).stdout.split() == [bitorch.__version__] * 4
    done = empty.run("-c", snippet())
    assert done.returncode == 0, done.stderr
    shown = README.partition("```text\n")[2].partition("```")[0].splitlines()
    printed = done.stdout.splitlines()
    # All but what the layers train on, which is the CPU's.
    assert [line.rstrip() for line in printed[:-2]] == shown[:-2]
    assert printed[-1] == shown[-1]
    assert (empty.folder / "net.bit.safetensors").is_file()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that README's snippet writes, by the packages under test."""
    folder = tmp_path_factory.mktemp("packed")
    subprocess.run([sys.executable, "-c", snippet()], cwd=folder, check=True, capture_output=True)
    return folder / "net.bit.safetensors"


def test_a_cpu_without_avx2_runs_the_same_numbers(release: tuple[int, int], empty: Empty, packed: Path) -> None:
    """The runtime alone: neither torch nor anything of ours is there."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("there is no qemu-x86_64, of Debian's package qemu-user")
    empty.install("numpy", wheels(release)[1])
    assert empty.run("-c", "import torch").returncode == 1
    outputs = []
    for name, before in (("here", ()), ("old", (emulator, "-cpu", OLD_CPU))):
        file = empty.folder / f"{name}.npy"
        done = empty.run("-c", RUN, packed, file, before=before)
        assert done.returncode == 0, done.stderr
        outputs.append((done.stdout.strip(), file.read_bytes()))
    assert outputs[1][0] == '["portable"]'
    assert outputs[0][1] == outputs[1][1]


def test_an_older_glibc_is_told_that_there_is_no_wheel(release: tuple[int, int], empty: Empty, tmp_path: Path) -> None:
    """Neither does pip take a wheel that could not be loaded, nor does it break an installation."""
    wheel = wheels(release)[1]
    glibc = glibc_of(wheel)
    assert glibc, f"{wheel.name} says no glibc"
    major, minor = glibc.split(".")
    machine = re.findall(r"_(x86_64|aarch64)\.whl$", wheel.name)[0]
    older, same = (f"manylinux_{major}_{number}_{machine}" for number in (int(minor) - 1, int(minor)))
    options = ("-m", "pip", "download", "--no-index", "--no-deps", "--only-binary", ":all:", "--find-links", DIST)
    refused = empty.run(*options, "--platform", older, "--dest", tmp_path, "bitorch-runtime")
    assert refused.returncode == 1
    assert "No matching distribution found for bitorch-runtime" in refused.stderr
    taken = empty.run(*options, "--platform", same, "--dest", tmp_path, "bitorch-runtime")
    assert taken.returncode == 0, taken.stderr


def test_the_trainer_is_pure_and_the_runtime_brings_one_library() -> None:
    names = {path.name for path in DIST.glob("*.whl")}
    assert any(name.endswith("-py3-none-any.whl") for name in names if name.startswith("bitorch_lowbit-"))
    assert names <= {name for name in names if re.match(r"bitorch_(lowbit|runtime)-[\d.]+-", name)}
    for wheel in DIST.glob("bitorch_runtime-*.whl"):
        listed = subprocess.run(
            [sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
        )
        libraries = re.findall(r"^(\S+\.(?:so|pyd|dylib)[\d.]*)\s", listed.stdout, re.MULTILINE)
        assert len(libraries) == 1, libraries
        assert libraries[0].startswith("bitorch_runtime/_native.")
