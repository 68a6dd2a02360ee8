"""How many bytes the C library takes, as an archive in a program and as a shared object, and what in it takes them.

    cmake -S runtime -B build/c && cmake --build build/c --target bitorch_runtime
    cmake build/c -DBUILD_SHARED_LIBS=ON && cmake --build build/c --target bitorch_runtime   # links what is compiled
    python benchmarks/library_size.py build/c [--tools aarch64-linux-gnu-]

The program is runtime/examples/classify.c. Sizes are of files without symbols (`strip`); those of the parts are code
and constants of their object files (`size`), which add up to what is loaded, but for what the linker adds.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RUNTIME = Path(__file__).parent.parent / "runtime"
#: By the names of kernel files, the first that fits; the names of the others' families are their own.
_FAMILIES = (
    ("AMX", "_amx"),
    ("AVX-512", "_avx512|_fused_(?!linear_(avx2|neon))"),
    ("AVX2", "_avx2"),
    ("NEON", "_neon"),
    ("portable", "_portable"),
    ("all but kernels", "bitorch_core"),
)


class Size(NamedTuple):
    """A row of the table."""

    what: str
    bytes: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=Path, help="build folder of the C library")
    parser.add_argument("--tools", default="", metavar="PREFIX", help="what stands before gcc, strip and size")
    arguments = parser.parse_args()
    for size in (*whole(arguments.build, arguments.tools), *parts(arguments.build, arguments.tools)):
        print(f"{size.what:<44}{size.bytes:>12,}")


def whole(build: Path, tools: str) -> Iterator[Size]:
    """The archive, the program with it, and the shared object, whichever the folder has."""
    archive, shared = build / "libbitorch_runtime.a", build / "libbitorch_runtime.so"
    if not archive.is_file() and not shared.is_file():
        raise SystemExit(
            f"{build} has no libbitorch_runtime.a and no libbitorch_runtime.so: build the target bitorch_runtime"
        )
    with tempfile.TemporaryDirectory() as folder:
        if archive.is_file():
            program = Path(folder, "classify")
            _link(tools, archive, program, behind_the_archive(build))
            yield Size("the archive, with symbols", archive.stat().st_size)
            yield Size("a program with the archive", _stripped(tools, program))
        if shared.is_file():
            copy = Path(shutil.copy(shared, folder))
            yield Size("the shared object", _stripped(tools, copy))


def behind_the_archive(build: Path) -> list[str]:
    """The libraries that a program with the archive links, as the pkg-config file has them."""
    text = (build / "bitorch_runtime.pc").read_text(encoding="utf-8")
    found = re.search(r"^Libs(?:\.private)?: (?:.*-lbitorch_runtime )?(-l\S*\+\+.*)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{build / 'bitorch_runtime.pc'} names no C++ library")
    return found[1].split()


def _link(tools: str, archive: Path, program: Path, behind: list[str]) -> None:
    source, include = _RUNTIME / "examples" / "classify.c", f"-I{_RUNTIME / 'include'}"
    _output(f"{tools}gcc", "-O2", include, str(source), str(archive), *behind, "-Wl,--gc-sections", "-o", str(program))


def _stripped(tools: str, path: Path) -> int:
    _output(f"{tools}strip", str(path))
    return path.stat().st_size


def parts(build: Path, tools: str) -> Iterator[Size]:
    """Code and constants of each family of kernels and of the rest."""
    totals = dict.fromkeys((name for name, _ in _FAMILIES), 0)
    for line in (build / "objects.txt").read_text(encoding="utf-8").splitlines():
        target, _, files = line.partition(" ")
        totals.setdefault(family(target), 0)
        totals[family(target)] += sum(_loaded(tools, file) for file in files.split(";"))
    yield from (Size(f"  {name}", total) for name, total in totals.items() if total > 0)


def family(target: str) -> str:
    """The family of a target of objects.txt."""
    return next((name for name, pattern in _FAMILIES if re.search(pattern, target)), target)


def _loaded(tools: str, file: str) -> int:
    """Bytes of code, constants and data of an object file."""
    text, data, bss = _output(f"{tools}size", file).splitlines()[1].split()[:3]
    return int(text) + int(data) + int(bss)


def _output(tool: str, *arguments: str) -> str:
    if shutil.which(tool) is None:
        raise SystemExit(f"{tool} is missing; it comes with the compiler and with binutils")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
