"""Which file may import which: no circles, types included, and floors of rooms, as docs/architecture.md says."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "src", ROOT / "runtime" / "src")
#: From the ground, as the page has them; a room imports rooms of its own floor and of those below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("operators", "quantizations", "data"),
    ("layers",),
    ("models",),
    ("config", "conversion", "calibration"),
    ("deployment",),
    ("checking", "reporting", "allocation", "hub"),
    ("train",),
    ("sweeps",),
    ("commands",),
)
#: Within deployment, likewise.
DEPLOYMENT: tuple[tuple[str, ...], ...] = (("graph",), ("capture", "passes"), ("runtime",), ("partial", "onnx"))
#: Lines of a function without its docstring.
MOST_LINES = 50


@cache
def modules() -> Mapping[str, Path]:
    """All files of both packages, by the names of their modules."""
    found = {}
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever in it; those of a name that is no module are their packages."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in modules() else base


@cache
def arrows() -> Mapping[str, frozenset[str]]:
    """Who imports whom; the packages' own files, which give names on, left out."""
    ends = {"bitorch", "bitorch_runtime"}
    return {
        module: frozenset(name for name in imports(module, path) if name in modules() and name not in {*ends, module})
        for module, path in modules().items()
        if module not in ends
    }


def test_no_import_goes_round() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def _floor(module: str, depth: int, floors: tuple[tuple[str, ...], ...]) -> int | None:
    parts = module.split(".")
    room = parts[depth] if len(parts) > depth else ""
    return next((number for number, rooms in enumerate(floors) if room in rooms), None)


@pytest.mark.parametrize(("inside", "floors"), [("bitorch", FLOORS), ("bitorch.deployment", DEPLOYMENT)])
def test_no_arrow_points_up(inside: str, floors: tuple[tuple[str, ...], ...]) -> None:
    depth = inside.count(".") + 1
    wrong = []
    for module, targets in arrows().items():
        own = _floor(module, depth, floors) if module.startswith(f"{inside}.") else None
        for target in targets:
            other = _floor(target, depth, floors) if target.startswith(f"{inside}.") else None
            if own is not None and other is not None and other > own:
                wrong.append(f"{module} → {target}")
    assert wrong == []


def test_the_runtime_does_not_know_bitorch() -> None:
    wrong = [
        f"{module} → {target}"
        for module, targets in arrows().items()
        for target in targets
        if module.startswith("bitorch_runtime") and not target.startswith("bitorch_runtime")
    ]
    assert wrong == []


def test_the_page_tells_the_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("| floor | rooms |")[1].splitlines() if line.startswith("| ")]
    assert len(rows) == len(FLOORS)
    for row, rooms in zip(rows, FLOORS, strict=True):
        assert all(f"`{room}/`" in row or f"`{room}/" in row for room in rooms), row


def test_functions_fit_a_screen() -> None:
    long = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                told = (
                    0
                    if ast.get_docstring(node) is None or first.end_lineno is None
                    else first.end_lineno - first.lineno + 1
                )
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - told
                if lines > MOST_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert long == []
