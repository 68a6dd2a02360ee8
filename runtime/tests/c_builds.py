"""What tests of the C library share: its build, a place where it is installed, and commands that must succeed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[1]
BUILD = Path(os.environ.get("BITORCH_RUNTIME_BUILD", RUNTIME.parent / "build" / "runtime"))
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc, gcc or clang)")


def command(*arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run it; what it prints."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, cwd=cwd, env=env)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def find_cmake() -> str:
    """That beside this Python, or that of the system; without either the test is skipped."""
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    if found is None:
        pytest.skip("there is no cmake: pip install cmake")
    return found


def install(cmake: str, folder: Path) -> Path:
    """Install the archive, with what belongs to it, from the build directory of `make test`; the prefix."""
    if not (BUILD / "CMakeCache.txt").is_file():
        pytest.skip(f"{BUILD} is no build directory: run `make test`, or set BITORCH_RUNTIME_BUILD")
    command(cmake, "--build", BUILD, "--target", "bitorch_runtime")
    command(cmake, "--install", BUILD, "--prefix", folder, "--component", "c")
    return folder


def flags_of(prefix: Path, *options: str) -> list[str]:
    """What a compiler must be told to use the library, by pkg-config where there is one."""
    (description,) = prefix.rglob("bitorch_runtime.pc")
    if shutil.which("pkg-config"):
        environment = os.environ | {"PKG_CONFIG_PATH": str(description.parent)}
        return command("pkg-config", *options, "--cflags", "--libs", "bitorch_runtime", env=environment).split()
    libraries = re.search("^Libs: .*?(-lbitorch_runtime.*)$", description.read_text(), re.MULTILINE)
    assert libraries is not None
    private = re.search("^Libs.private: (.*)$", description.read_text(), re.MULTILINE)
    behind = private[1].split() if private is not None and "--static" in options else []
    return [f"-I{prefix}/include", f"-L{description.parents[1]}", *libraries[1].split(), *behind]
