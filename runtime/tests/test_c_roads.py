"""The roads to the C library, each a small project of C alone that is built and run on a packed file.

find_package and pkg-config of an installed archive; add_subdirectory and FetchContent, which build it; the shared
object. The library is compiled once, for the last three together, which differ in what is linked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from c_builds import BUILD, COMPILER, RUNTIME, command, find_cmake, flags_of, install, needs_compiler

ROOT = RUNTIME.parent
PAGE = (ROOT / "docs" / "c.md").read_text(encoding="utf-8")
HEADER = (RUNTIME / "include" / "bitorch_runtime.h").read_text(encoding="utf-8")
#: What a project says, by road: as docs/c.md has it, with the places filled in.
ADD = 'add_subdirectory("${RUNTIME}" bitorch)'
FETCH = """include(FetchContent)
FetchContent_Declare(bitorch SOURCE_DIR "${RUNTIME}/.." SOURCE_SUBDIR runtime BINARY_DIR "${CMAKE_BINARY_DIR}/bitorch")
FetchContent_MakeAvailable(bitorch)"""
FIND = "find_package(bitorch_runtime 0.1 REQUIRED)"

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def cmake() -> str:
    return find_cmake()


def app_text() -> str:
    """The program of docs/c.md."""
    found = re.search(r'^```c title="app.c"\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def write_app(folder: Path, road: str) -> Path:
    """Write a project of C alone; returns its folder."""
    folder.mkdir(exist_ok=True)
    (folder / "app.c").write_text(app_text())
    (folder / "CMakeLists.txt").write_text(
        f"""cmake_minimum_required(VERSION 3.21)
project(app C)
{road}
add_executable(app app.c)
target_link_libraries(app PRIVATE bitorch::runtime)
"""
    )
    return folder


def write_net(folder: Path) -> list[str]:
    """Write a net of 64 numbers and 10 scores; what the program prints of 64 zeros."""
    offset = np.arange(10, dtype=np.float32) / 4 - 1
    arrays: dict[str, Any] = {"w": np.ones((10, 64), np.float32), "multiply": np.ones(10, np.float32), "offset": offset}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [64]},
        {"op": "linear_float", "input": "x", "weight": "w", "multiply": "multiply", "offset": "offset", "float32": "y"},
        {"op": "output", "input": "y"},
    ]
    bitorch_runtime.save(folder / "net.bit.safetensors", operations, arrays)
    return [f"{number:g}" for number in offset]


def check_run(program: Path, folder: Path, *before: str | Path) -> None:
    """The program, run on the net; and on none, which it says."""
    expected = write_net(folder)
    assert command(*before, program, cwd=folder).splitlines() == expected
    (folder / "net.bit.safetensors").unlink()
    done = subprocess.run([*before, program], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 1
    assert "net.bit.safetensors: cannot be opened" in done.stderr


def test_the_program_has_ten_lines() -> None:
    body = app_text().split("int main(void) {\n")[1]
    assert len(body.splitlines()) <= 11  # and the brace that closes it


def test_find_package(cmake: str, tmp_path: Path) -> None:
    prefix = install(cmake, tmp_path / "prefix")
    app = write_app(tmp_path / "app", FIND)
    command(cmake, "-S", app, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    command(cmake, "--build", tmp_path / "build")
    check_run(tmp_path / "build" / "app", tmp_path)


def test_find_package_of_another_version(cmake: str, tmp_path: Path) -> None:
    prefix = install(cmake, tmp_path / "prefix")
    app = write_app(tmp_path / "app", FIND.replace("0.1", "0.9"))
    done = subprocess.run(
        [cmake, "-S", app, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert 'requested version "0.9"' in re.sub(r"\s+", " ", done.stderr)


def test_pkg_config(cmake: str, tmp_path: Path) -> None:
    prefix = install(cmake, tmp_path / "prefix")
    (tmp_path / "app.c").write_text(app_text())
    assert COMPILER is not None
    for options in ((), ("--static",)):
        flags = flags_of(prefix, *options)
        command(COMPILER, "-std=c99", "-Wpedantic", "-Werror", tmp_path / "app.c", "-o", tmp_path / "app", *flags)
        check_run(tmp_path / "app", tmp_path)


def test_sizes_are_printed(cmake: str, tmp_path: Path) -> None:
    """As docs/c.md says, of the archive and of its parts, which the program holds."""
    for tool in ("gcc", "strip", "size"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    install(cmake, tmp_path / "prefix")
    printed = command(sys.executable, ROOT / "benchmarks" / "library_size.py", BUILD)
    sizes = {
        name: int(number.replace(",", "")) for name, number in re.findall(r"^ *(.+?) {2,}([\d,]+)$", printed, re.M)
    }
    program, archive = sizes.pop("a program with the archive"), sizes.pop("the archive, with symbols")
    sizes.pop("the shared object", None)
    assert {"portable", "all but kernels"} <= sizes.keys()
    assert 0.5 * sum(sizes.values()) < program < 1.5 * sum(sizes.values())
    assert program < archive


@dataclass(frozen=True)
class Configured:
    """A project that has bitorch as a part, before it is built."""

    build: Path
    #: Commands of compilers by source file.
    commands: Mapping[str, str]
    cache: str


@pytest.fixture(scope="module")
def configured(cmake: str, tmp_path_factory: pytest.TempPathFactory) -> Configured:
    folder = tmp_path_factory.mktemp("configured")
    build = folder / "build"
    command(
        cmake, "-S", write_app(folder / "app", ADD), "-B", build, f"-DRUNTIME={RUNTIME}",
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
    )  # fmt: skip
    entries = json.loads((build / "compile_commands.json").read_text())
    return Configured(build, {e["file"]: e["command"] for e in entries}, (build / "CMakeCache.txt").read_text())


def test_a_part_leaks_no_flags(configured: Configured) -> None:
    (own,) = [text for file, text in configured.commands.items() if file.endswith("app.c")]
    assert set(re.findall(r" -[^Io]\S*", own)) == {" -c"}
    assert re.findall(r"-I\S+", own) == [f"-I{RUNTIME}/include"]


def test_a_part_has_no_errors_of_warnings_and_no_tools(configured: Configured) -> None:
    assert len(configured.commands) > 50
    assert not any("-Werror" in text for text in configured.commands.values())
    assert all("-ffp-contract=off" in text for file, text in configured.commands.items() if file.endswith(".cpp"))
    assert not any("/tools/" in file or "/python/" in file for file in configured.commands)


def test_a_part_installs_nothing_and_chooses_nothing(cmake: str, configured: Configured, tmp_path: Path) -> None:
    command(cmake, "--install", configured.build, "--prefix", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not re.search("^(BUILD_SHARED_LIBS|CMAKE_INSTALL_LIBDIR)\\b", configured.cache, re.MULTILINE)
    assert re.search("^CMAKE_BUILD_TYPE:STRING=$", configured.cache, re.MULTILINE)


def test_flags_that_change_results_are_refused(cmake: str, tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", ADD)
    done = subprocess.run(
        [cmake, "-S", app, "-B", tmp_path / "build", f"-DRUNTIME={RUNTIME}", "-DCMAKE_CXX_FLAGS=-g -ffast-math"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "CMAKE_CXX_FLAGS has -ffast-math" in re.sub(r"\s+", " ", done.stderr)


class Part:
    """One build folder for all roads that compile the library: it is compiled by the first of them."""

    def __init__(self, cmake: str, folder: Path, *options: str) -> None:
        self.cmake, self.folder, self.build = cmake, folder, folder / "build"
        # Hardly run, so hardly optimised. Kernels of vectors need some of it.
        self.options = [f"-DRUNTIME={RUNTIME}", "-DBITORCH_KERNEL_OPTIMIZE=-O1", "-DCMAKE_BUILD_TYPE=Debug", *options]
        if shutil.which("ccache"):
            self.options.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")

    def make(self, road: str, *options: str) -> list[str]:
        """Build the project in this way; what was compiled."""
        app = write_app(self.folder / "app", road)
        command(self.cmake, "-S", app, "-B", self.build, *self.options, *options)
        said = command(self.cmake, "--build", self.build, "--parallel", str(max(2, os.cpu_count() or 1)))
        return re.findall(r"Building CXX object \S+", said)


@pytest.mark.slow
def test_roads_that_compile(cmake: str, tmp_path: Path) -> None:
    """A part by add_subdirectory, then by FetchContent, then as a shared object: compiled once, run each time."""
    part = Part(cmake, tmp_path)
    assert len(part.make(ADD)) > 50
    check_run(part.build / "app", part.folder)
    assert part.make(FETCH) == []
    check_run(part.build / "app", part.folder)
    assert part.make(ADD, "-DBUILD_SHARED_LIBS=ON", "-DBITORCH_INSTALL=ON") == []
    check_run(part.build / "app", part.folder)
    check_shared(part)


def check_shared(part: Part) -> None:
    """It shows the C interface alone, has a name with its version, and serves find_package and pkg-config."""
    prefix = part.folder / "prefix"
    command(part.cmake, "--install", part.build, "--prefix", prefix)
    (library,) = [path for path in prefix.rglob("libbitorch_runtime.so*") if not path.is_symlink()]
    major, minor, _ = bitorch_runtime.__version__.split(".")
    assert library.name == f"libbitorch_runtime.so.{bitorch_runtime.__version__}"
    assert f"SONAME libbitorch_runtime.so.{major}.{minor}" in re.sub(r" +", " ", command("objdump", "-p", library))
    shown = {line.split()[-1] for line in command("nm", "-D", "--defined-only", library).splitlines()}
    assert shown == set(re.findall(r"^BITORCH_API .*?\b(bitorch_\w+)\(", HEADER, re.MULTILINE))
    check_installed(part, prefix, library.parent)


def check_installed(part: Part, prefix: Path, libraries: Path) -> None:
    """Projects of C alone with the shared object: by CMake, and by pkg-config, with and without archives."""
    folder = part.folder / "installed"
    app = write_app(folder, FIND)
    command(part.cmake, "-S", app, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    command(part.cmake, "--build", folder / "build")
    check_run(folder / "build" / "app", folder)
    flags = flags_of(prefix)
    assert not any("c++" in flag for flag in flags)
    assert any("c++" in flag for flag in flags_of(prefix, "--static"))
    assert COMPILER is not None
    command(COMPILER, folder / "app.c", "-o", folder / "app", *flags, f"-Wl,-rpath,{libraries}")
    check_run(folder / "app", folder)


@pytest.mark.slow
def test_cross_building(cmake: str, tmp_path: Path) -> None:
    """For 64-bit ARM, run in an emulator, which knows dot products and does not."""
    for tool in ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++", "qemu-aarch64"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}: apt-get install gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user")
    part = Part(cmake, tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={RUNTIME}/cmake/aarch64-linux-gnu.cmake")
    assert part.make(ADD)
    for cpu in ("cortex-a53", "cortex-a76"):
        check_run(part.build / "app", tmp_path, "qemu-aarch64", "-cpu", cpu)
