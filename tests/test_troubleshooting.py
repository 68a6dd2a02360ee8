"""Every row of docs/troubleshooting.md: its symptom is met, and what it says to do makes it go away."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from bitorch.cli import main
from troubles import COMMAND_TROUBLES, TROUBLES, Trouble

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"


class Row(NamedTuple):
    """A row of a table: cells as they stand in the page."""

    symptom: str
    cause: str
    remedy: str


def rows() -> list[Row]:
    cells = re.compile(r"(?<!\\)\|")
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    tables = [[cell.strip().replace("\\|", "|") for cell in cells.split(line)[1:-1]] for line in lines]
    return [Row(*row) for row in tables if row[0] != "you see" and not set(row[0]) <= set("-:")]


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return [span.strip() for spans in re.findall(r"``(.+?)``|`(.+?)`", cell) for span in spans if span]


def messages(row: Row) -> list[str]:
    """Return what is quoted of messages; `check` and the like say where they come from."""
    return [text for text in code(row.symptom) if text not in ("check",)]


ROWS = rows()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "a"
    train = ["train", "--data", "digits", "--model", "lenet-8", "--bits", "1", "2", "6", "--epochs", "1"]
    assert main([*train, "--out", str(folder)]) == 0
    return folder


def test_every_row_has_a_trouble_and_every_trouble_a_row() -> None:
    symptoms = [row.symptom for row in ROWS]
    assert len(set(symptoms)) == len(symptoms)
    assert set(symptoms) == {*TROUBLES, *COMMAND_TROUBLES}


@pytest.mark.parametrize("row", [row for row in ROWS if row.symptom in TROUBLES], ids=lambda row: row.symptom[:50])
def test_symptom_is_met_and_remedied(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    TROUBLES[row.symptom](Trouble(messages(row), code(row.remedy)))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.symptom in COMMAND_TROUBLES], ids=lambda row: row.symptom[:50]
)
def test_symptom_of_a_command_is_met_and_remedied(
    row: Row, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs" / "a")
    COMMAND_TROUBLES[row.symptom](Trouble(messages(row), code(row.remedy)), capsys)
