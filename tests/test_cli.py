"""The command line: what it runs, what it prints, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import bitorch
from bitorch import cli
from bitorch.cli import main
from bitorch.commands.arguments import parse_train
from bitorch.train import Settings, read_checkpoint, read_settings

#: A run of a second.
SHORT = ("train", "--epochs", "1", "--batch-size", "700", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main([*SHORT, "--out", str(folder)]) == 0
    return folder


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail as a user's error does, and return its one line."""
    code = main(arguments)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_documented_command() -> None:
    command = "--data digits --model lenet-8 --bits 1 2 6 --epochs 30 --seed 0"
    assert parse_train(command.split()) == Settings(data="digits", model="lenet-8", bits=(1, 2, 6), epochs=30, seed=0)


def test_eval_says_that_it_takes_packed_nets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for sentence in (
        "a checkpoint, or a packed net, on test images",
        "or by bitorch deploy",
        "Packed nets run on the CPU",
    ):
        assert sentence in text


def test_train_writes_its_files_and_prints_the_result(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.name for path in out.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "metrics.csv",
        "settings.yaml",
        "tensorboard",
    }
    settings = read_checkpoint(out / "last.ckpt").settings
    assert settings is not None
    assert Settings.from_dict(read_settings(out / "settings.yaml")) == dataclasses.replace(settings, out=None)
    assert main([*SHORT, "--out", str(out.parent / "again")]) == 0
    printed = capsys.readouterr()
    assert "best top-1" in printed.out
    assert printed.err == ""
    first, again = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (out, out.parent / "again"))
    assert all(torch.equal(first["state_dict"][name], t) for name, t in again["state_dict"].items())


def test_config_file_and_flags(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("epochs: 5\nschedule: step\nmilestones: [10]\nbits: [2, 2, 32]\nlr: 1e-2\n")
    settings = parse_train(["--config", str(config), "--epochs", "20", "--lr", "0.1"])
    assert (settings.epochs, settings.milestones, settings.bits, settings.lr) == (20, (10,), (2, 2, 32), 0.1)
    config.write_text('{"flip": true, "out": "somewhere"}')
    settings = parse_train([f"--config={config}", "--no-flip"])
    assert (settings.flip, settings.out) == (False, Path("somewhere"))


def test_settings_of_a_run_are_a_config_file(out: Path, tmp_path: Path) -> None:
    settings = read_checkpoint(out / "last.ckpt").settings
    assert settings is not None
    arguments = ["--config", str(out / "settings.yaml"), "--seed", "1", "--out", str(tmp_path)]
    assert parse_train(arguments) == dataclasses.replace(settings, seed=1, out=tmp_path)


def test_resume_takes_the_settings_of_the_run(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(out, tmp_path / "copy")
    last = str(folder / "last.ckpt")
    assert "has finished its 1 epochs; to go on, raise epochs" in error_of(["train", "--resume", last], capsys)
    assert main(["train", "--resume", last, "--epochs", "2"]) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    checkpoint = read_checkpoint(folder / "last.ckpt")
    assert checkpoint.settings is not None
    assert (checkpoint.epoch, checkpoint.settings.batch_size) == (2, 700)
    assert read_checkpoint(out / "last.ckpt").epoch == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (
            ["zzz"],
            "unknown command 'zzz'; there are init, train, sweep, check, report, sensitivity, allocate, eval, deploy",
        ),
        (["train", "--bits", "1", "9", "6"], "bits (of activations) must be one of 1…8, or 32 for none, got 9"),
        (["train", "--lr", "-1"], "lr must be above 0, got -1.0"),
        (["train", "--model", "lenet5"], "model must be one of svhn-a"),
        (["train", "--config", "missing.yaml"], "missing.yaml"),
        (["train", "--config", "/"], "/ is a folder; it must be a YAML or JSON file"),
        (["train", "--seed", str(2**63)], "seed must be below 2**63, got 9223372036854775808"),
        (["train", "--batch-size", "1"], "batch_size must be at least 2"),
        (["train", "--model", "resnet-20", "--width", "0.001"], "width must be above 0.03125"),
        (["train", "--model", "svhn-a"], "With --pad-to 40"),
        (["train", "--resume", "missing.ckpt"], "there is no checkpoint missing.ckpt"),
        (["train", "--data", "mnist"], 'data "mnist" needs the folder'),
        (["train", "--out", "/proc/run"], "cannot write to the folder /proc/run"),
        (["eval", "missing.ckpt"], "there is no checkpoint missing.ckpt"),
        (["check", "missing.ckpt"], "there is no checkpoint missing.ckpt"),
        (["check", "--epochs", "3", "late.ckpt"], "the checkpoint late.ckpt must stand in front of the flags"),
        (["check", "--model", "resnet-21"], "model must be one of svhn-a"),
    ],
)
def test_user_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in error_of(arguments, capsys)


def test_config_typo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("batchsize: 64\n")
    assert "unknown setting 'batchsize'; did you mean 'batch_size'?" in error_of(
        ["train", "--config", str(config)], capsys
    )


def test_checkpoint_of_another_architecture(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--resume", str(out / "last.ckpt"), "--model", "resnet-20", "--epochs", "2"]
    message = error_of(arguments, capsys)
    assert "last.ckpt (lenet-8, bits 1 2 6) does not fit the model ResNet20: it lacks " in message


def test_flags_that_do_not_parse(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--bits", "1", "2"], "Missing value for argument '--bits'"),
        (["--epochz", "3"], "bitorch train has no option --epochz; did you mean --epochs?"),
        (["--config"], "--config"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["train", *arguments])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_bugs_show_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def bug(self: Any, **options: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("bitorch.train.run.Run.train", bug)
    with pytest.raises(ValueError, match="a bug"):
        main([*SHORT, "--out", str(tmp_path / "run")])


def test_full_disk_in_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("bitorch.train.run.write_settings", lambda *arguments: None)
    assert main([*SHORT, "--out", str(tmp_path / "run")]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith(f"error: cannot write the checkpoint {tmp_path / 'run' / 'last.ckpt'}: No space left")
    assert errors.count("\n") == 1


def test_nan_ends_with_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bitorch.data.Augmentation.__call__", lambda self, x: x * float("nan"))
    assert main([*SHORT, "--out", str(tmp_path / "run")]) == 1
    assert capfd.readouterr().err.startswith("error: step 0 (epoch 1): the loss is nan")


def test_eval(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(out / "best.ckpt")
    assert main(["eval", checkpoint, "--accelerator", "cpu"]) == 0
    table = capsys.readouterr().out
    assert main(["eval", checkpoint, "--json", "--data", "digits", "--accelerator", "cpu"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert evaluation["images"] == 360
    assert evaluation["bits"] == [1, 2, 6]
    assert f"{evaluation['top1']:.2%}" in table
    assert f"{evaluation['top5']:.2%}" in table


def test_check(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--bits", "1", "2", "6", "--accelerator", "cpu"]) == 0
    expected = "digits-lenet-8-w1a2g6-seed0, a batch of 64 images: no problem in 3 quantized layers"
    assert capsys.readouterr().out == f"{expected}; the loss is cross-entropy\n"
    assert main(["check", str(out / "last.ckpt"), "--seed", "3"]) == 0
    expected = "digits-lenet-8-w1a2g6-seed3, a batch of 700 images: no problem in 3 quantized layers"
    assert capsys.readouterr().out == f"{expected}; the loss is cross-entropy\n"
    assert main(["check", "--label-smoothing", "0.1", "--accelerator", "cpu"]) == 0
    assert capsys.readouterr().out.endswith("; the loss is smoothed_cross_entropy\n")
    assert list(tmp_path.iterdir()) == []


def test_check_finds_what_a_checkpoint_has(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(out / "last.ckpt", weights_only=True)
    content["state_dict"]["model.layers.4.bias"].fill_(-9)
    torch.save(content, tmp_path / "dead.ckpt")
    assert main(["check", str(tmp_path / "dead.ckpt")]) == 1
    printed = capsys.readouterr().out
    assert "layers.7: dead activations: 100.0% of the inputs become 0" in printed
    assert "layers.3: zero gradient: the gradient of its weight is exactly zero" in printed


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "doctor       Say what" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"bitorch {bitorch.__version__}\n")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes that can break")
def test_output_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "bitorch.cli", "doctor"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name in ("rich", "tyro") else object())
    for command in ("train", "eval"):
        assert 'this command needs rich, tyro: pip install ".[train]" in a checkout' in error_of([command], capsys)


def test_import_without_the_extra() -> None:
    """`bitorch` and `bitorch doctor` need only torch; a name of bitorch.train says what it needs."""
    script = """
import sys
for name in ("lightning", "torchmetrics", "tyro", "rich", "yaml", "sklearn", "tensorboard", "numpy", "matplotlib"):
    sys.modules[name] = None
import bitorch
from bitorch.cli import main
assert main(["doctor"]) == 0
assert main(["train"]) == 2
from bitorch.train import Settings
try:
    from bitorch.train import fit
except ImportError as error:
    assert 'pip install ".[train]" in a checkout of bitorch' in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, stdout=subprocess.DEVNULL, timeout=120)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_leaves_a_checkpoint_that_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bitorch.cli", "train", "--epochs", "100", "--out", "run", "--accelerator", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest.endswith("stopped; resume with\n  bitorch train --resume run/last.ckpt\n")
    assert errors == ""
    last = tmp_path / "run" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    assert checkpoint.epoch >= 1
    epochs = checkpoint.epoch + 1
    assert main(["train", "--resume", str(last), "--epochs", str(epochs)]) == 0
    assert read_checkpoint(last).epoch == epochs


def test_ctrl_c_before_training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def press_ctrl_c(arguments: list[str]) -> Settings:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitorch.commands.arguments.parse_train", press_ctrl_c)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "stopped\n"
