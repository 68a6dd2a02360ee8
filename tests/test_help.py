"""`--help` of the commands that take a run's settings: a short first page, groups, and all of them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import pytest

from bitorch.cli import main
from bitorch.commands.arguments import _CheckArguments, _TrainArguments
from bitorch.commands.help import _options
from bitorch.commands.help_groups import FIRST, GROUPS
from bitorch.known_names import MODEL_NAMES
from bitorch.train import Settings

FIELDS = [field.name for field in dataclasses.fields(Settings)]
COMMANDS = ("train", "check", "report", "sensitivity", "allocate")


def page(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    assert (stop.value.code, printed.err) == (0, "")
    return printed.out


def flags(text: str) -> list[str]:
    return re.findall(r"^  (--[a-z-]+)", text, flags=re.MULTILINE)


def flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def test_every_field_is_in_exactly_one_group() -> None:
    grouped = Counter(name for _, fields in GROUPS.values() for name in fields)
    assert grouped == Counter(FIELDS)
    assert set(FIRST) <= set(FIELDS)


def test_the_first_page_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = page(["train", "--help"], capsys)
    assert len(text.splitlines()) <= 60
    assert [name for name in flags(text) if not name.startswith("--help")] == [*map(flag, FIRST), "--config"]
    for name in GROUPS:
        assert f"  --help {name} " in text
    assert "Exit code 0: trained; 1: a loss or gradient was not finite" in text
    assert page(["train", "-h"], capsys) == text


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_its_fields(command: str, group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert flags(page([command, "--help", group], capsys)) == [flag(name) for name in GROUPS[group][1]]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_of_them(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = page([command, "--help-all"], capsys)
    assert {*map(flag, FIELDS), "--config", "--quantizers"} <= set(flags(text))
    assert "torchrun" in text
    assert "Last layer: float (as the paper)" in text
    assert "1, which need --sign. (default: 0.0)" in text
    assert all(re.search(rf"\b{name}\b", text) for name in MODEL_NAMES)
    assert max(map(len, text.splitlines())) <= 100


def test_own_options_and_a_checkpoint_stand_on_the_first_page(capsys: pytest.CaptureFixture[str]) -> None:
    text = page(["report", "--help"], capsys)
    assert text.startswith("usage: bitorch report [CHECKPOINT] [OPTIONS]")
    assert {"--images", "--html", "--csv", "--json", "--config"} <= set(flags(text))


def test_every_option_has_a_text() -> None:
    for kind in (_TrainArguments, _CheckArguments):
        assert all(len(option.text) > 8 for option in _options(kind))


def test_a_group_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for asked, hint in (("bit", "did you mean bits?"), ("zzzzz", f"there are {', '.join(GROUPS)}")):
        with pytest.raises(SystemExit) as stop:
            main(["train", "--help", asked])
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: bitorch train --help has no group '{asked}'; {hint}\n"
