"""A run whose folder goes, or cannot be written to any more, ends with a sentence."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitorch.cli import main
from bitorch.train.recorder import RunRecorder

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name

RUN = ["train", "--epochs", "3", "--batch-size", "300", "--accelerator", "cpu"]


def after(method: str, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Act once, after the recorder's method was called."""
    original = getattr(RunRecorder, method)
    left = [act]

    def patched(self: RunRecorder, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        if left:
            left.pop()()
        return result

    monkeypatch.setattr(RunRecorder, method, patched)


def replace_by_file(out: Path) -> None:
    shutil.rmtree(out)
    out.write_text("a file")


def move(out: Path) -> None:
    out.rename(out.with_name("moved"))


@pytest.mark.parametrize("method", ["on_train_batch_end", "on_train_epoch_end"])
@pytest.mark.parametrize("act", [shutil.rmtree, replace_by_file, move])
def test_a_folder_that_goes(
    method: str,
    act: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    after(method, lambda: act(out), monkeypatch)
    assert main([*RUN, "--out", str(out)]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith(
        f"error: the folder of the run, {out}, has gone or cannot be entered, so the run has stopped"
    )
    assert errors.count("\n") == 1
    assert not out.is_dir()  # and no new one is made
    if act is move and method == "on_train_epoch_end":
        assert main(["train", "--resume", str(tmp_path / "moved" / "last.ckpt")]) == 0


def test_logs_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    after("on_train_epoch_end", lambda: shutil.rmtree(out / "tensorboard"), monkeypatch)
    assert main([*RUN, "--out", str(out)]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith(f"error: cannot write the TensorBoard log in {out / 'tensorboard'}: No such file")
    assert f"go on with --resume {out / 'last.ckpt'}" in errors
    assert errors.count("\n") == 1


def test_a_disk_that_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first thing that does not fit is named, and not the logs that are closed then."""
    out = tmp_path / "run"

    def fill() -> None:
        def full(*arguments: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", full)
        shutil.rmtree(out / "tensorboard")

    after("on_train_batch_end", fill, monkeypatch)
    assert main([*RUN, "--out", str(out)]) == 2
    errors = capfd.readouterr().err
    assert "last.ckpt: No space left on device" in errors or "cannot write the TensorBoard log" in errors
    assert errors.count("\n") == 1
    assert not list(out.glob(".bitorch-*"))
