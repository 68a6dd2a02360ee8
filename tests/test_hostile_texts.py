"""Settings and rules from anywhere: every text is read or refused with a sentence, in little time and memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitorch import load_rules
from bitorch.cli import main
from bitorch.train import Settings, read_settings

BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]"] + [
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
])  # fmt: skip
MERGES = "\n".join(["a: &a {k: 1}"] + [
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
])  # fmt: skip
HOSTILE = {
    "alias bomb": (BOMB, "more than 25,000 values"),
    "alias bomb in a value": ("lr: &x0 [1]\n" + "\n".join(
        f"k{i}: &x{i + 1} [*x{i}, *x{i}]" for i in range(40)
    ), "more than 25,000 values"),
    "merge bomb": (MERGES, "more than 25,000 values"),
    "alias of itself": ("epochs: &a [*a]", "an alias inside what it stands for"),
    "brackets": ("[" * 20_000, "nested too deeply"),
    "braces": ("{a: " * 20_000, "nested too deeply"),
    "lines": ("\n".join(" " * i + "a:" for i in range(1000)), "nested too deeply"),
    "dashes": ("- " * 20_000 + "a", "nested too deeply"),
    "base 60": ("epochs: " + ":".join(["59"] * 5000), "a number of 14999 characters"),
    "base 60, float": ("lr: " + ":".join(["59"] * 5000) + ".0", "a number of 15001 characters"),
    "digits": ("epochs: " + "9" * 100_000, "a number of 100000 characters"),
    "many": ("[" + "a," * 30_000 + "]", "more than 25,000 values"),
    "too much": ("#" * 2**20 + "\n#", "more than 1 MiB"),
    "control": ("\x00", "unacceptable character"),
    "key of a list": ("[1, 2]: 3", "unhashable key|unknown setting"),
    "tag": ("epochs: !!python/name:os.system x", "the tag .* is not allowed"),
    "date": ("epochs: 2001-99-99", "month must be in 1"),
    "twice": ("epochs: 3\nepochs: 4", "the key 'epochs' stands twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [read_settings, load_rules])
def test_hostile_yaml_is_refused_at_once(name: str, read: Callable[[Path], Any], tmp_path: Path) -> None:
    text, message = HOSTILE[name]
    path = tmp_path / "run.yaml"
    path.write_text(text)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(ValueError, match=rf"run\.yaml.*{message}|must hold a list of rules") as raised:
        read(path)
    assert time.perf_counter() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert len(str(raised.value)) < 600


def test_hostile_json(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    for text, message in (
        ("[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        (json.dumps([0] * 200_000), "more than 25,000 values"),
        ("[" + "9" * 5000 + "]", "Exceeds the limit"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"rules\.json: .*{message}") as raised:
            load_rules(path)
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", "[[[1]]]"), ("epochs", "x" * 10_000), ("bits", "{a: 1}"), ("model", "'" + "m" * 9999 + "'")],
)
def test_messages_about_values_are_short(field: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{field}: {value}")
    with pytest.raises((ValueError, TypeError), match=field) as raised:
        Settings.from_dict(read_settings(path))
    assert len(str(raised.value)) < 500


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="has no endless file")
def test_endless_files_and_pipes_without_a_writer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/dev/zero .*more than 1 MiB"):
        read_settings("/dev/zero")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert read_settings(tmp_path / "pipe.yaml") == {}
    with pytest.raises(ValueError, match=r"pipe\.yaml: holds no rules"):
        load_rules(tmp_path / "pipe.yaml")


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="has no names of open files")
def test_settings_from_a_pipe_with_a_writer() -> None:
    """As `bitorch train --config <(…)` has it."""
    script = "import sys; from bitorch.train import read_settings; print(read_settings(sys.argv[1]))"
    command = ["bash", "-c", f"{sys.executable} -c '{script}' <(sleep 0.2; echo epochs: 3)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "{'epochs': 3}\n", done.stderr


def test_aliases_and_merges_within_bounds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "- &base {weight_bits: 1, activation_bits: 2}\n- {<<: *base, match: 'layer1.*', gradient_bits: 6}\n"
    )
    first, second = load_rules(path)
    assert str(first.match) == "*"
    assert getattr(second.config, "gradient_bits", None) == 6


YAML_TEXT = st.lists(
    st.sampled_from(["a", "epochs", "lr", ": ", ":", "- ", "[", "]", "{", "}", ",", "&a ", "*a", "<<", "\n", "  ", "'",
                     '"', "!!int ", "!", "|", ">", "?", "? ", "%", "#", "1", "1e-3", "0x", "1:2", ".inf", ".nan", "~",
                     "=", "2001-01-01", "\t", "\\", "\ufeff", "\x85", "---", "...", "@", "`", "true", "0o7", "1_000"]),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(YAML_TEXT)
def test_any_yaml_is_read_or_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    try:
        fields = read_settings(path)
    except ValueError as error:
        assert "run.yaml" in str(error)  # noqa: PT017  # both ways are right
    else:
        try:
            Settings.from_dict(fields)
        except (ValueError, TypeError) as error:
            assert any(name in str(error) for name in fields)  # noqa: PT017
    try:
        load_rules(path)
    except ValueError as error:
        assert "run.yaml" in str(error)  # noqa: PT017  # both ways are right


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("alias bomb", "brackets", "base 60"):
        path = tmp_path / "run.yaml"
        path.write_text(HOSTILE[name][0])
        for arguments in (["train", "--config", str(path)], ["train", "--rules", str(path)]):
            assert main(arguments) == 2
            printed = capsys.readouterr()
            assert printed.err.startswith("error: ")
            assert printed.err.count("\n") == 1
