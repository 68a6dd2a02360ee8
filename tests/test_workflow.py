"""The workflow that builds the wheels calls what there is: targets, files, jobs, values of its matrix."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import bitorch

ROOT = Path(__file__).parent.parent
FILE = ROOT / ".github" / "workflows" / "wheels.yml"
WORKFLOW: dict[Any, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
JOBS: dict[str, Any] = WORKFLOW["jobs"]
RUNTIME = (ROOT / "runtime" / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
#: Modules that a step installs before it calls them, or that Python has.
MODULES = ("pip", "build", "cibuildwheel", "twine")


def steps() -> list[tuple[str, list[str]]]:
    return [
        (job, shlex.split(line, comments=True))
        for job, body in JOBS.items()
        for step in body["steps"]
        for line in step.get("run", "").splitlines()
    ]


@pytest.mark.parametrize(("job", "words"), steps())
def test_commands_call_what_there_is(job: str, words: list[str]) -> None:
    if words[0] == "make":
        for word in words[1:]:
            assert "=" in word or re.search(rf"^{re.escape(word)}:", MAKEFILE, re.MULTILINE), word
        return
    assert words[0] in ("python", "python3")
    if words[1] != "-m":
        assert (ROOT / words[1]).is_file(), words[1]
        return
    assert words[2] in MODULES
    installed = " ".join(
        " ".join(line) for name, line in steps() if name == job and line[:3] == ["python", "-m", "pip"]
    )
    assert f"{words[2]}==" in installed or words[2] == "pip"
    for word in words[3:]:
        if word in (".", "runtime"):
            assert (ROOT / word / "pyproject.toml").is_file()


def test_jobs_wait_for_jobs_that_there_are() -> None:
    assert set(JOBS["publish"]["needs"]) == set(JOBS) - {"publish"}
    assert JOBS["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in FILE.read_text(encoding="utf-8")


def test_each_system_has_a_machine_of_its_kind() -> None:
    systems = {row["system"] for row in JOBS["runtime"]["strategy"]["matrix"]["include"]}
    assert systems == {"linux-x86-64", "linux-arm64", "macos-arm64", "macos-x86-64", "windows-x86-64"}
    used = set(re.findall(r"matrix\.(\w+)", FILE.read_text(encoding="utf-8")))
    assert all(used == set(row) for row in JOBS["runtime"]["strategy"]["matrix"]["include"])


def test_tests_of_a_wheel_exist() -> None:
    command = re.search(r'^test-command = "(.*)"$', RUNTIME, re.MULTILINE)
    assert command is not None
    files = re.findall(r"\{package\}/(\S+)", command[1])
    assert len(files) >= 3
    for name in files:
        text = (ROOT / "runtime" / name).read_text(encoding="utf-8")
        assert not re.search(r"^(?:import|from) (?:torch|bitorch)\b", text, re.MULTILINE), f"{name} needs the trainer"


@pytest.mark.parametrize(("tag", "code"), [(f"v{bitorch.__version__}", 0), ("v9.9.9", 1), (bitorch.__version__, 1)])
def test_a_tag_of_another_version_is_not_published(tag: str, code: int) -> None:
    script = str(ROOT / "scripts" / "check_tag.py")
    done = subprocess.run([sys.executable, script, tag], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.count("tag it v") == (2 if code else 0)
