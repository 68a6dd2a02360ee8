"""`bitorch report`: of checkpoints and of new nets, what it prints and writes, and how it ends."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bitorch.cli import main
from bitorch.train import Settings, fit

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name

NEW = ("report", "--model", "lenet-8", "--width", "0.25", "--images", "16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    fit(Settings(width=0.25, epochs=1, batch_size=500, out=folder, accelerator="cpu"), show=False)
    return folder / "last.ckpt"


def as_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail as a user's error does, and return its one line."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_checkpoint_has_the_bytes_of_the_file_that_deploy_writes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", str(checkpoint), "--out", str(tmp_path / "net")]) == 0
    capsys.readouterr()
    found = as_json(["report", str(checkpoint)], capsys)
    assert found["deployment"] == "whole"
    assert found["totals"]["packed_bytes"] == (tmp_path / "net").stat().st_size
    assert {row["name"] for row in found["rows"]} >= {"layers.0", "layers.3", "max_pool", "file header"}


def test_flags_change_the_net_of_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(["report", str(checkpoint), "--bits", "4", "4", "32"], capsys)
    assert {(row["weight_bits"], row["activation_bits"]) for row in found["rows"]} == {(None, None), (4, 4)}


def test_a_new_net_as_text_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table = tmp_path / "report.html", tmp_path / "report.csv"
    assert main([*NEW, "--html", str(page), "--csv", str(table)]) == 0
    assert "LeNet8: deploys as one packed file" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["name"] == "total"
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.csv"}


def test_in_a_terminal_the_table_has_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*NEW]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("layer ") for line in lines) > 1
    assert max(len(line) for line in lines if line.startswith("layers.")) <= 80


def test_without_the_runtime(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitorch_runtime", None)
    assert main(["report", str(checkpoint)]) == 0
    assert "pip install ./runtime" in capsys.readouterr().out


def test_errors(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--images 0: must be at least 1" in error_of([*NEW, "--images", "0"], capsys)
    assert "there is no folder" in error_of([*NEW, "--html", str(tmp_path / "no" / "x.html")], capsys)
    assert "is a folder" in error_of([*NEW, "--csv", str(tmp_path)], capsys)
    assert "there is no checkpoint" in error_of(["report", str(tmp_path / "none.ckpt")], capsys)
    assert "model must be one of" in error_of(["report", "--model", "lenet-9"], capsys)
    assert "in front of the flags" in error_of(["report", "--images", "3", str(checkpoint)], capsys)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install ".[plots]"' in error_of([*NEW, "--html", str(tmp_path / "x.html")], capsys)
    assert list(tmp_path.iterdir()) == []
