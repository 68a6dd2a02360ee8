"""How the C++ sources depend on each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"

#: What the files of a folder may include besides their own. The headers of core/ itself are for all.
MAY_INCLUDE = {
    "core/base": set(),
    "core/format": {"core/base"},
    "core/graph": {"core/base", "core/format"},
    "core/conv": {"core/base"},
    "core/training": {"core/base"},
    "operations": {"core/base", "core/format", "core/graph", "core/conv"},
    "core/program": {"core/base", "core/format", "core/graph", "operations"},
}


def sources(folder: str) -> list[Path]:
    return [path for path in sorted((CSRC / folder).iterdir()) if path.suffix in (".h", ".cpp")]


def includes(path: Path) -> Iterator[str]:
    yield from re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE)


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.relative_to(CSRC).as_posix() for path in CSRC.rglob("*.cpp")}
    assert {folder for folder in folders if folder.startswith(("core", "operations"))} == set(MAY_INCLUDE)


@pytest.mark.parametrize("folder", MAY_INCLUDE)
def test_arrows_run_one_way(folder: str) -> None:
    allowed = MAY_INCLUDE[folder] | {folder}
    for path in sources(folder):
        for name in includes(path):
            target = (CSRC / name).relative_to(CSRC)
            assert (CSRC / target).is_file(), f"{path.name} includes {name}, which is not a path from csrc"
            assert target.parent.as_posix() in {*allowed, "core"}, f"{path.name} includes {name}"


def test_headers_do_not_include_each_other() -> None:
    """Within a folder arrows run one way too."""
    graph = {
        path.relative_to(CSRC).as_posix(): list(includes(path))
        for folder in MAY_INCLUDE
        for path in sources(folder)
        if path.suffix == ".h"
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name in done:
            return
        for other in graph.get(name, []):
            visit(other, (*above, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_each_operation_has_its_file() -> None:
    """But for those of two tensors, number by number, which differ in the number alone."""
    table = (CSRC / "operations" / "operations.cpp").read_text()
    readers = re.findall(r'^ +\{"\w+", k\w+Keys, read_and_make<read_(\w+),', table, re.MULTILINE)
    assert len(readers) > 20
    for name in set(readers) - {"pair"}:
        assert (CSRC / "operations" / f"{name}.h").is_file()
        assert f"read_{name}(" in (CSRC / "operations" / f"{name}.cpp").read_text()
    assert "read_pair(" in (CSRC / "operations" / "pairs.cpp").read_text()
