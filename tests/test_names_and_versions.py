"""Both packages have one version, and everybody calls them by the names that they have on the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bitorch
import bitorch_runtime

ROOT = Path(__file__).parent.parent
PROJECTS = {"bitorch-lowbit": ROOT / "pyproject.toml", "bitorch-runtime": ROOT / "runtime" / "pyproject.toml"}
#: Who tells users what to install. The change log also says how it was before.
TEXTS = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "Makefile", "runtime/README.md", "runtime/CMakeLists.txt")
    ),
    *(path for folder in ("docs", ".github") for path in sorted((ROOT / folder).rglob("*.[my][dm]*"))),
    *(
        path
        for folder in ("src", "runtime/src", "benchmarks", "recipes")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ),
]
#: The index has BITorch under the name bitorch: a mistake installs another project. `bitorch==0.4.1` is meant.
WRONG = re.compile(r"pip install (?:(?!in )[^\s`#]+ )*\"?bitorch(?![\w=-])|(?<![\w.-])bitorch\[\w")


def field(project: Path, name: str) -> str:
    found = re.search(rf'^{name} = "([^"]*)"', project.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{project} has no {name}"
    return found[1]


@pytest.mark.parametrize("name", PROJECTS)
def test_projects_have_their_names_and_one_version(name: str) -> None:
    assert field(PROJECTS[name], "name") == name
    assert field(PROJECTS[name], "version") == bitorch.__version__ == bitorch_runtime.__version__


def test_documents_speak_of_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == bitorch.__version__
    minor = bitorch.__version__.rpartition(".")[0]
    page = (ROOT / "docs" / "c.md").read_text(encoding="utf-8")
    assert set(re.findall(r"find_package\(bitorch_runtime ([\d.]+)|libbitorch_runtime\.so\.([\d.]*\d)", page)) == {
        (minor, ""),
        ("", minor),
    }


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pip install bitorch", True),
        ('pip install "bitorch[hub]"', True),
        ("pip install torch bitorch", True),
        ("bitorch[bench]", True),
        ('pip install "bitorch-lowbit[hub]"', False),
        ("pip install bitorch-runtime", False),
        ("pip install bitorch==0.4.1", False),
        ('pip install ".[train]" in a checkout of bitorch', False),
        ("pip install ./runtime", False),
    ],
)
def test_the_wrong_name_is_found(text: str, wrong: bool) -> None:
    assert (WRONG.search(text) is not None) == wrong


def test_nobody_is_told_to_install_another_project() -> None:
    for path in TEXTS:
        found = WRONG.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path}: {found[0] if found else ''}"
