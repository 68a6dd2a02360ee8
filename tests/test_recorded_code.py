"""What files name is run only if the user has run it here before, as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitorch.own_code import find_own
from bitorch.recorded_code import find_recorded, remember


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("mine.py").write_text("raise SystemError('it ran')\n", encoding="utf-8")


def test_what_was_named_before_is_found() -> None:
    file = find_own("mine.py:net")
    remember(file)
    remember(file)
    assert find_recorded("mine.py:net", file.sha256, said_by="x.ckpt") == file
    assert find_recorded("mine.py:net", None, said_by="settings.yaml") == file


def test_what_was_not_is_not_run() -> None:
    file = find_own("mine.py:net")
    with pytest.raises(ValueError, match=r"x\.ckpt has the model mine\.py:net, and .* has not been run here before"):
        find_recorded("mine.py:net", file.sha256, said_by="x.ckpt")


def test_the_same_source_elsewhere_was_not_run() -> None:
    """Beside a file of the user's are modules that it imports, and beside a copy are others."""
    remember(find_own("mine.py:net"))
    Path("given").mkdir()
    Path("given/mine.py").write_text(Path("mine.py").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has not been run here before; .* say --model given/mine\.py:net"):
        find_recorded("given/mine.py:net", None, said_by="x.ckpt")
    found = find_recorded("given/mine.py:net", find_own("mine.py:net").sha256, said_by="x.ckpt")
    assert found.path == Path("mine.py").absolute()


def test_a_change_is_told() -> None:
    file = find_own("mine.py:net")
    remember(file)
    Path("mine.py").write_text("def net(): pass\n", encoding="utf-8")
    remember(find_own("mine.py:net"))
    with pytest.raises(
        ValueError, match=rf"has changed since: its SHA-256 was {file.sha256[:12]}… and is .*say --data m"
    ):
        find_recorded("mine.py:net", file.sha256, said_by="x.ckpt", what="data", option="--data")


def test_it_is_found_from_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = find_own("mine.py:net")
    remember(file)
    monkeypatch.chdir(tmp_path)
    found = find_recorded("mine.py:net", file.sha256, said_by="x.ckpt")
    assert (found.path, found.text) == (file.path, f"{file.path}:net")
    Path("mine.py").write_text("another\n", encoding="utf-8")
    assert find_recorded("mine.py:net", file.sha256, said_by="x.ckpt") == found
    file.path.unlink()
    with pytest.raises(ValueError, match="has changed since"):
        find_recorded("mine.py:net", file.sha256, said_by="x.ckpt")
    Path("mine.py").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"not here \(model: there is no such file: mine\.py\); name it with --mod"
    ):
        find_recorded("mine.py:net", file.sha256, said_by="x.ckpt")


def test_without_a_place_to_remember_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "full"))
    remember(find_own("mine.py:net"))
    with pytest.raises(ValueError, match="has not been run here before"):
        find_recorded("mine.py:net", None, said_by="x.ckpt")


def test_no_more_is_kept_than_needed(tmp_path: Path) -> None:
    kept = tmp_path / "state" / "bitorch" / "own-code.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("".join(f"{number:064}  /nowhere/mine.py\n" for number in range(510)), encoding="utf-8")
    remember(find_own("mine.py:net"))
    lines = kept.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 500
    assert lines[-1] == f"{find_own('mine.py:net').sha256}  {Path('mine.py').absolute()}"
