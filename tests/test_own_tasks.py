"""Runs of tasks of the user's own: chosen, trained, resumed, in two processes, and through the commands."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import bitorch
from bitorch.cli import main
from bitorch.commands.allocate import budget_of
from bitorch.commands.allocated_rules import allocated_rules
from bitorch.commands.held_out import pairs_from
from bitorch.conversion.rules import Rule
from bitorch.train import Interrupted, Result, Settings, evaluate, fit, load_model, prepare, read_checkpoint
from bitorch.train.bits_in_force import bits_in_force
from bitorch.train.recorder import RunRecorder
from task_files import TASKS

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file, where own code is remembered, too."""
    (tmp_path / "mine.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def settings(data: str, model: str, **changes: Any) -> Settings:
    short = {"epochs": 2, "batch_size": 16, "accelerator": "cpu", "bits": (4, 4, 32), "workers": 0}
    return Settings(**{"data": f"mine.py:{data}", "model": f"mine.py:{model}", **short, **changes})


def run(data: str, model: str, out: str, **changes: Any) -> Result:
    return fit(settings(data, model, out=Path(out), **changes), show=False)


@pytest.mark.parametrize(
    ("data", "model", "loss", "metric", "names"),
    [
        ("numbers", "Two", "mse", "mae", {"mae", "rmse"}),
        ("tags", "tagger", "bce", "f1", {"f1", "exact"}),
        ("pixels", "Pixels", "pixels", "miou", {"miou", "pixel_acc"}),
    ],
)
def test_outputs_and_labels_choose_the_task_and_the_run_keeps_it(
    data: str, model: str, loss: str, metric: str, names: set[str]
) -> None:
    result = run(data, model, "out", init=None)
    assert result.metric == metric
    rows = [row[f"val/{metric}"] for row in result.history]
    assert result.best == (min(rows) if metric == "mae" else max(rows))
    assert torch.load(result.best_checkpoint, weights_only=True)["epoch"] == rows.index(result.best)
    with pytest.raises(AttributeError, match=f"has no accuracy; best and last are its {metric}"):
        _ = result.best_accuracy
    task = torch.load(result.last_checkpoint, weights_only=True)["bitorch"]["task"]
    assert task == {"name": loss, "best": metric, "larger_is_better": metric != "mae"}
    found = evaluate(result.last_checkpoint, accelerator="cpu")
    assert found.metrics == pytest.approx({name: result.history[-1][f"val/{name}"] for name in names}, rel=1e-5)
    assert found.loss == pytest.approx(result.history[-1]["val/loss"], rel=1e-5)
    assert (found.top1, found.metric) == (None, metric)


@pytest.mark.parametrize(("data", "model"), [("tags", "tagger"), ("pixels", "Pixels")])
@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_resumed_run_equals_a_straight_one(
    data: str, model: str, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_size = 16 if data == "tags" else 8
    extra: dict[str, Any] = {"batch_size": batch_size, "range": "learned", "warmup_epochs": 0.5}
    straight = run(data, model, "straight", **extra)
    with monkeypatch.context() as patched:
        patched.setattr(RunRecorder, "_shall_stop", lambda self, trainer: trainer.global_step == stop_after)
        with pytest.raises(Interrupted) as stopped:
            run(data, model, "stopped", **extra, workers=2)
    again = fit(dataclasses.replace(settings(data, model, **extra), resume=stopped.value.checkpoint), show=False)
    assert [without_time(row) for row in straight.history] == [without_time(row) for row in again.history]
    ours, theirs = (read_checkpoint(r.last_checkpoint).state_dict for r in (straight, again))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(ValueError, match=r"metric is 'loss', but the run of .* has 'auto' and keeps it"):
        prepare(settings(data, model, **extra, epochs=3, metric="loss", resume=again.last_checkpoint))


def without_time(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds_per_step"}


def test_an_own_loss_and_metric_choose_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("numbers", "Two", "out", loss="mine.py:absolute", metric="mine.py:worst")
    assert (result.metric, result.best) == ("worst", min(row["val/worst"] for row in result.history))
    assert {"val/mae", "val/rmse", "val/worst"} <= set(result.history[0])  # the task is still a regression
    # The loss is the mean absolute error.
    assert result.history[-1]["val/loss"] == pytest.approx(result.history[-1]["val/mae"], rel=1e-5)
    found = evaluate(result.last_checkpoint, accelerator="cpu")
    assert found.metrics["worst"] == pytest.approx(result.history[-1]["val/worst"])
    assert evaluate(result.last_checkpoint, loss="mse", accelerator="cpu").loss != found.loss
    (Path("state") / "bitorch" / "own-code.txt").unlink()  # as on another machine
    with pytest.raises(ValueError, match=r"has the \w+ mine\.py:\w+, and .* has not been run here before"):
        evaluate(result.last_checkpoint, accelerator="cpu")


def test_bf16_warm_starts_and_teachers_of_any_task() -> None:
    teacher = run("pixels", "Pixels", "teacher", bits=(32, 32, 32), precision="bf16")
    assert math.isfinite(teacher.best)
    distilled = run("pixels", "Pixels", "student", distil=teacher.last_checkpoint, init=teacher.last_checkpoint)
    plain = run("pixels", "Pixels", "plain", init=teacher.last_checkpoint)
    assert distilled.history[0]["train/loss"] != plain.history[0]["train/loss"]
    assert math.isfinite(distilled.best)
    warm = run("numbers", "Two", "warm", epochs=4, warm_start="bits", warm_start_epochs=2, bits=(2, 2, 32))
    counted = [row["val/mae"] for row in warm.history[2:]]
    assert warm.best == min(counted)
    with pytest.raises(ValueError, match="those for the loss mse are none; leave distil out"):
        prepare(settings("numbers", "Two", distil=teacher.last_checkpoint))


@pytest.mark.parametrize(
    ("data", "model", "changes", "message"),
    [
        ("numbers", "Two", {"loss": "cross-entropy"}, "loss cross-entropy: .*; what fits them is mse"),
        ("numbers", "Two", {"loss": "pixels"}, "what fits them is mse"),
        ("pixels", "Pixels", {"loss": "mse"}, r"outputs \[16, 3, 8, 8\], .*; what fits them is pixels"),
        ("tags", "tagger", {"loss": "cross-entropy"}, "what fits them is bce"),
        ("void_pixels", "Pixels", {"loss": "pixels"}, "label 255 is outside the classes 0…2; .*--ignore-index"),
        ("wrong_classes", "Pixels", {}, "returns 3 outputs, and data mine.py:wrong_classes has 5 classes"),
        ("numbers", "Two", {"metric": "acc"}, "metric must be one of mae, rmse, loss for the loss mse"),
        ("numbers", "Two", {"metric": "mine.py:vague"}, "vague does not say whether larger is better"),
        ("numbers", "Two", {"loss": "mine.py:los"}, "has no 'los'"),
        ("numbers", "Two", {"label_smoothing": 0.1}, "label_smoothing is that of the loss cross-entropy, .* mse"),
        ("pixels", "Pixels", {"flip": True}, "--flip change pictures with a class each, .* for the loss pixels"),
        ("numbers", "Two", {"shift": 1}, "augment samples in the data set itself"),
        ("tags", "Two", {}, None),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    data: str, model: str, changes: dict[str, Any], message: str | None
) -> None:
    if message is None:
        message = r"the model returns \[16, 1\], and the labels are int64 \[16, 3\]; they do not say which loss"
    with pytest.raises((ValueError, TypeError), match=message):
        prepare(settings(data, model, **changes))
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "l1"}, "loss must be one of auto, cross-entropy, bce, mse, pixels, or FILE.py:NAME of your own"),
        ({"loss": "ms"}, "did you mean mse"),
        ({"metric": "iou"}, r"metric must be one of auto, .*; did you mean miou\?"),
        ({"data": "digits", "model": "lenet-8", "loss": "bce"}, "bce does not fit digits, .* cross-entropy"),
    ],
)
def test_names_that_are_none_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(Settings(**changes))


def test_void_pixels_do_not_count() -> None:
    results = [
        run(data, "Pixels", data, ignore_index=index) for data, index in (("pixels", -100), ("void_pixels", 255))
    ]
    rows = [[without_time(row) for row in result.history] for result in results]
    assert rows[0] == rows[1]


def test_a_wrong_label_ends_the_command_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--model mine.py:Two --bits 4 4 32 --batch-size 16 --epochs 1 --workers 0 --accelerator cpu"
    assert main(["train", "--data", "mine.py:with_nan", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert "label nan is not finite" in error
    assert "error: training batch" in error
    assert "Traceback" not in error
    for loss, message in (
        ("no_scalar", "the loss no_scalar must return a tensor of one number"),
        ("raising", "the loss raising raises AttributeError at mine.py:"),
    ):
        assert main(["train", "--data", "mine.py:numbers", *flags.split(), "--loss", f"mine.py:{loss}"]) == 2
        assert f"error: {message}" in capsys.readouterr().err


def test_pictures_take_a_loss_of_ones_own(folder: Path) -> None:
    (folder / "focal.py").write_text(
        "import torch\n"
        "class Focal(torch.nn.Module):\n"
        "    def forward(self, z, y):\n"
        "        p = z.log_softmax(1).gather(1, y[:, None])\n"
        "        return -((1 - p.exp()) ** 2 * p).mean()\n"
    )
    digits = Settings(epochs=1, batch_size=700, accelerator="cpu", loss="focal.py:Focal", out=Path("out"))
    result = fit(digits, show=False)
    assert (result.metric, result.best) == ("acc", result.best_accuracy)
    plain = fit(dataclasses.replace(digits, loss="auto", out=Path("plain")), show=False)
    assert result.history[0]["train/loss"] < plain.history[0]["train/loss"]  # each term has a factor below 1


@pytest.mark.slow
def test_two_processes_train_as_one(folder: Path) -> None:
    script = (
        "import json, os, pathlib, sys\n"
        "from bitorch.train import Settings, fit\n"
        "devices, out = int(sys.argv[1]), sys.argv[2]\n"
        "run = Settings(data='mine.py:numbers', model='mine.py:Two', bits=(4, 4, 32), epochs=2, accelerator='cpu',\n"
        "               batch_size=16 // devices, devices=devices, optimizer='sgd', lr=0.05, out=pathlib.Path(out),\n"
        "               workers=0)\n"
        "import torch\n"
        "torch.nn.Dropout.forward = lambda self, x: x  # which processes draw differently\n"
        "result = fit(run, show=False)\n"
        "rank = os.environ.get('LOCAL_RANK', '0')\n"
        "pathlib.Path(f'{out}-{rank}.json').write_text(json.dumps(result.history))\n"
    )
    (folder / "script.py").write_text(script)
    launcher = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launcher}
    environment |= {"OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder / "state")}
    for devices, out in ((1, "one"), (2, "two")):
        done = subprocess.run(
            [sys.executable, "script.py", str(devices), out], cwd=folder, env=environment, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two, other = (json.loads(Path(f"{name}.json").read_text()) for name in ("one-0", "two-0", "two-1"))
    for row, ours, theirs in zip(one, two, other, strict=True):
        # Of the training data each process has said its own part; the means are of both.
        assert {k: v for k, v in ours.items() if k != "seconds_per_step"} == without_time(theirs)
        assert without_time(row) == pytest.approx(without_time(ours), rel=1e-4)


def command(line: str) -> int:
    return main(line.split())


def commands_run(*lines: str) -> list[int]:
    return [command(line) for line in lines]


def test_sensitivity_and_allocate_as_commands(capsys: pytest.CaptureFixture[str]) -> None:
    result = run("pixels", "Pixels", "out", bits=(4, 4, 32))
    before = read_checkpoint(result.last_checkpoint).state_dict
    assert main(["sensitivity", "out/last.ckpt", "--try-bits", "W1A2", "W8A8", "--csv", "s.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["weight_bits"], row["activation_bits"]) for row in rows] == [
        ("two", "1", "2"), ("two", "8", "8"),
    ]  # fmt: skip
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in found["rows"]]
    assert found["images"] == 16
    assert command("allocate out/last.ckpt --budget 100kB --try-bits W1A1 W2A3 -o rules.yaml --layers two") == 0
    assert "rules.yaml has these bits; train on with\n  bitorch train … --rules rules.yaml" in capsys.readouterr().out
    again = run("pixels", "Pixels", "mixed", bits=Settings.bits, rules=Path("rules.yaml"), init=result.last_checkpoint)
    assert tuple(bits_in_force(load_model(again.last_checkpoint))["two"][:2]) in ((1, 1), (2, 3))
    after = read_checkpoint(result.last_checkpoint).state_dict
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert command("allocate out/last.ckpt --budget 10 --try-bits 2") == 2
    assert "a budget of 10 bytes cannot be met: the fewest of these bits take" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("allocate --data digits", "--budget is missing: bytes of the packed file"),
        ("allocate --data digits --budget lots", "--budget lots: must be bytes, such as 60000, 60kB or 58KiB, or time"),
        ("sensitivity --data digits --try-bits W1 2", "--try-bits W1 2: must be numbers such as 1 2 4"),
        ("sensitivity --data digits --samples 1", "--samples 1: must be at least 2"),
        ("sensitivity --data digits --csv no/such.csv", "there is no folder no"),
        ("allocate --data digits --budget 1kB -o rules.txt", "rules.txt"),
        ("sensitivity --data digits --bits 32 32 32 --samples 64 --batch-size 64", "no low-bit layer"),
        ("sensitivity --bit 1 2 6", "bitorch sensitivity has no option --bit; did you mean --bits?"),
    ],
)
def test_commands_refuse_what_they_cannot(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(line.split())
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    assert message in capsys.readouterr().err


def test_budgets_and_bits_as_texts() -> None:
    assert budget_of("60kB") == bitorch.Budget(bytes=60_000)
    assert budget_of("1.5 KiB") == bitorch.Budget(bytes=1536)
    assert budget_of("300us") == bitorch.Budget(milliseconds=0.3)
    assert budget_of("60_000") == bitorch.Budget(bytes=60_000)
    assert pairs_from(("1", "2")) == (1, 2)
    assert pairs_from(("w1a2", "W4A32")) == ((1, 2), (4, 32))


@pytest.mark.parametrize("ends", ["float", "same"])
def test_rules_of_an_allocation_give_a_float_net_these_bits(ends: Any) -> None:
    """Rules that decide nothing any more are left out, for a file that has such is refused."""

    def net() -> torch.nn.Module:
        return torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))

    config = bitorch.LowBitConfig(4, 4, first=ends, last=ends)
    model = net()
    bitorch.quantize_(model, config)
    data = [(torch.rand(16, 8), torch.randint(0, 8, (16,))) for _ in range(2)]
    found = bitorch.allocate(model, data, bitorch.Budget(bytes=100_000), [(1, 2), (2, 2)])
    base = [Rule("*", config)] if ends == "same" else [Rule("*", config), Rule("1", config)]
    rules = allocated_rules(found, base, model)
    bitorch.save_rules("rules.yaml", rules)
    fresh = net()
    bitorch.quantize_(fresh, bitorch.load_rules("rules.yaml"))
    given = {layer.layer: layer.bits for layer in found.layers}
    assert {name: tuple(bits[:2]) for name, bits in bits_in_force(fresh).items()} == given
    assert len(rules) == (4 if ends == "same" else 3)


def test_packed_nets_of_any_task_are_verified_and_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    result = run("pixels", "Pixels", "out", bits=(2, 2, 32))
    lines = (
        "check out/last.ckpt",
        "report out/last.ckpt --images 8",
        "deploy out/last.ckpt -o net.bit.safetensors",
        "verify out/last.ckpt net.bit.safetensors --json",
    )
    assert commands_run(*lines) == [0, 0, 0, 0]
    verified = json.loads(capsys.readouterr().out.rpartition("\n{\n")[2].join(("{\n", "")))
    assert verified["checkpoint_metrics"] == verified["net_metrics"]
    assert verified["checkpoint_metrics"]["miou"] == pytest.approx(result.history[-1]["val/miou"], rel=1e-5)
    assert (verified["images"], verified["checkpoint_top1"], verified["other_predictions"]) == (16, None, [])
    packed = bitorch.PackedModel.load("net.bit.safetensors")
    assert packed.inputs[0].dtype == torch.uint8  # as the data have pixels
    assert packed.provenance is not None
    assert packed.provenance["run"]["loss"] == "auto"
    assert packed.provenance["metrics"]["miou"] == result.last
    assert commands_run("eval net.bit.safetensors --data mine.py:pixels --json") == [0]
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["miou"] == pytest.approx(result.last, rel=1e-5)
    assert commands_run("eval net.bit.safetensors --data mine.py:numbers") == [2]


def test_a_changed_packed_net_fails_verification(capsys: pytest.CaptureFixture[str]) -> None:
    run("numbers", "Two", "out", bits=(4, 4, 32))
    run("numbers", "Two", "other", bits=(4, 4, 32), seed=1)
    shutil.copy("other/last.ckpt", "swapped.ckpt")
    assert commands_run("deploy swapped.ckpt -o net.bit.safetensors", "verify out/last.ckpt net.bit.safetensors") != [
        0,
        0,
    ]
    assert "error" in capsys.readouterr().err
