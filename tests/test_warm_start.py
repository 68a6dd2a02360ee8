"""Warm starts: which layer has which bits when, that targets come back, and exact resume in the middle."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch.cli import main
from bitorch.data import BatchLoader
from bitorch.train import Classifier, Settings, Stage, WarmStart, evaluate, fit, load_model, read_checkpoint
from bitorch.train.bits_in_force import bits_in_force
from bitorch.train.progress import quiet_lightning
from bitorch.train.recorder import RunStopped
from test_train import STEPS_PER_EPOCH, assert_same_state, blobs, small_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name

#: Layers "1" and "4" of `mixed_net`, at the end.
TARGET = {"1": (2, 2, 6), "4": (4, 3, 32)}


def mixed_net(**methods: Any) -> nn.Module:
    """A net whose two low-bit layers have different bits."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip
    config = {name: bitorch.LowBitConfig(*bits, **methods) for name, bits in TARGET.items()}
    bitorch.quantize_(model, list(config.items()))
    if methods.get("range", "unit") != "unit":
        bitorch.calibrate(model, [blobs(40).images / 255])
    return model


class Record(pl.Callback):
    """Notes the bits in every training step, and at each validation."""

    def __init__(self) -> None:
        self.steps: list[dict[str, tuple[int, int, int]]] = []
        self.validations: list[dict[str, tuple[int, int, int]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        self.steps.append(bits_in_force(pl_module.model))  # type: ignore[arg-type]  # a Classifier's

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validations.append(bits_in_force(pl_module.model))  # type: ignore[arg-type]


def train(
    folder: Path, start: WarmStart, model: nn.Module, *, resume: Path | None = None, **options: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]], Record]:
    record = Record()
    with quiet_lightning():
        trainer, recorder = small_trainer(folder, more_callbacks=[start, record], **options)
        images = blobs(16 * STEPS_PER_EPOCH)
        loader = BatchLoader(images, 16, shuffle=True, seed=3, drop_last=True)
        trainer.fit(Classifier(model, 3, seed=3), loader, BatchLoader(images, 32, shuffle=False), ckpt_path=resume)
    for row in recorder.history:
        row.pop("seconds_per_step")
    return {name: t.clone() for name, t in model.state_dict().items()}, recorder.history, record


#: Name, and the bits of both layers in each of three epochs.
COURSES: dict[str, tuple[Callable[[], WarmStart], list[dict[str, tuple[int, int, int]]]]] = {
    "activations first": (
        lambda: WarmStart.activations_first(2),
        [{"1": (32, 32, 32), "4": (32, 32, 32)}, {"1": (32, 2, 32), "4": (32, 3, 32)}, TARGET],
    ),
    "fewer bits": (
        lambda: WarmStart.fewer_bits(2),
        [{"1": (8, 8, 6), "4": (8, 8, 32)}, {"1": (4, 4, 6), "4": (4, 4, 32)}, TARGET],
    ),
    "one stage that only one layer is in": (
        lambda: WarmStart([Stage(2, weight=3, gradient=8)]),
        [{"1": (3, 2, 8), "4": (4, 3, 32)}, {"1": (3, 2, 8), "4": (4, 3, 32)}, TARGET],
    ),
}


@pytest.mark.parametrize("course", COURSES)
def test_every_layer_has_its_bits_in_every_epoch(course: str, tmp_path: Path) -> None:
    make, expected = COURSES[course]
    model = mixed_net()
    _, history, record = train(tmp_path, make(), model)
    assert record.steps == [bits for bits in expected for _ in range(STEPS_PER_EPOCH)]
    assert record.validations == expected
    assert bits_in_force(model) == TARGET
    for row, bits in zip(history, expected, strict=True):
        logged = [row["bits/weights"], row["bits/activations"], row["bits/gradients"]]
        assert logged == [min(values) for values in zip(*bits.values(), strict=True)]
        assert row["bits/at_target"] == float(bits == TARGET)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"bits/weights", "bits/activations", "bits/gradients", "bits/at_target"} <= set(header)


def test_the_best_checkpoint_has_the_bits_of_the_end(tmp_path: Path) -> None:
    _, history, _ = train(tmp_path, WarmStart.activations_first(2), mixed_net())
    best = read_checkpoint(tmp_path / "best.ckpt")
    assert best.step == 3 * STEPS_PER_EPOCH
    assert best.bits == {name: list(bits) for name, bits in TARGET.items()}
    assert len(history) == 3


def test_without_an_epoch_at_the_bits_of_the_end_there_is_no_best(tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        train(tmp_path, WarmStart.fewer_bits(2), mixed_net(), stop_after=STEPS_PER_EPOCH)
    assert (tmp_path / "last.ckpt").exists()
    assert not (tmp_path / "best.ckpt").exists()


METHODS: dict[str, dict[str, Any]] = {
    "unit": {},
    "lsq": {"range": "learned"},
    "fixed": {"range": "calibrated", "gradients": "signed"},
}
MIDDLE = STEPS_PER_EPOCH + 3
#: All of them, of which these are quick enough for each change.
QUICK = [("lsq", "fewer_bits", MIDDLE), ("lsq", "activations_first", 2), ("fixed", "fewer_bits", STEPS_PER_EPOCH)]
RESUMED = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
    for case in product(
        METHODS, ("activations_first", "fewer_bits"), (2, STEPS_PER_EPOCH, MIDDLE, 2 * STEPS_PER_EPOCH + 1)
    )
]


@pytest.mark.parametrize(("kind", "start", "stop_after"), RESUMED)
def test_resumed_run_equals_straight_run(tmp_path: Path, kind: str, start: str, stop_after: int) -> None:
    make, methods = getattr(WarmStart, start), METHODS[kind]
    straight, straight_history, _ = train(tmp_path / "straight", make(2), mixed_net(**methods))
    with pytest.raises(RunStopped):
        train(tmp_path / "stopped", make(2), mixed_net(**methods), stop_after=stop_after)
    last = tmp_path / "stopped" / "last.ckpt"
    resumed, history, record = train(tmp_path / "resumed", make(2), mixed_net(**methods), resume=last)
    assert_same_state(straight, resumed)
    assert straight_history == history
    assert len(record.steps) == 3 * STEPS_PER_EPOCH - stop_after
    assert record.steps[-1] == TARGET


def test_ranges_and_parameters_are_kept(tmp_path: Path) -> None:
    model = mixed_net(range="learned")
    before = dict(model.named_parameters())
    train(tmp_path, WarmStart.fewer_bits(2), model)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert all(parameter.isfinite().all() for parameter in after.values())


def test_a_model_in_the_middle_is_not_mistaken_for_its_target(tmp_path: Path) -> None:
    """A checkpoint's targets count, and not the bits that the model has when training goes on."""
    with pytest.raises(RunStopped):
        train(tmp_path, WarmStart.fewer_bits(2), mixed_net(), stop_after=2)
    model = mixed_net()
    bitorch.set_bits(model, (8, 8))
    train(tmp_path, WarmStart.fewer_bits(2), model, resume=tmp_path / "last.ckpt")
    assert bits_in_force(model) == TARGET


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: WarmStart([]), ValueError, "stages is empty"),
        (lambda: WarmStart.activations_first(1), ValueError, "epochs must be at least 2, one for each stage, got 1"),
        (lambda: WarmStart.fewer_bits(True), TypeError, "epochs must be an int, got True"),
        (lambda: Stage(0, weight=2), ValueError, "epochs must be at least 1, got 0"),
        (lambda: Stage(True, weight=2), TypeError, "epochs must be an int, got True"),
        (lambda: Stage(1, activation=9), ValueError, "activation must be one of 1…8, or 32 for none, got 9"),
    ],
)
def test_arguments(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_errors_before_the_first_step(tmp_path: Path) -> None:
    signs = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))
    bitorch.quantize_(signs, [("1", bitorch.LowBitConfig(1, 1, sign="sign"))])
    before = bits_in_force(signs)
    cases: list[tuple[WarmStart, nn.Module, str]] = [
        (WarmStart.activations_first(2), signs, "warm start, stage 1: layer '(model.)?1': Sign always has 1 bits"),
        (WarmStart.fewer_bits(2), nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), "the model has none; quantize_ it"),
        (WarmStart.fewer_bits(3), mixed_net(), "the warm start takes 3 epochs and the run 3, which leaves none"),
    ]
    for start, model, message in cases:
        with pytest.raises(ValueError, match=message):
            train(tmp_path, start, model)
    assert bits_in_force(signs) == before


SHORT = ["--batch-size", "700", "--accelerator", "cpu"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    flags = ["--range", "learned", "--warm-start", "bits", "--warm-start-epochs", "2", "--bits", "2", "2", "32"]
    assert main(["train", *SHORT, "--epochs", "3", *flags, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("epoch ")]
    assert [line.partition("bits ")[2] for line in lines] == ["8 8 32", "4 4 32", "2 2 32"]
    checkpoint = read_checkpoint(out / "last.ckpt")
    assert checkpoint.settings is not None
    assert (checkpoint.settings.warm_start, checkpoint.settings.warm_start_epochs) == ("bits", 2)
    assert set(map(tuple, checkpoint.bits.values())) == {(2, 2, 32)}
    assert evaluate(out / "best.ckpt", accelerator="cpu").top1 == checkpoint.history[-1]["val/acc"]
    best = next(line for line in printed.splitlines() if "best top-1" in line)
    assert f"{checkpoint.history[-1]['val/acc']:.2%}" in best


def test_a_checkpoint_of_a_stage_evaluates_as_it_was(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        raise StopError

    settings = Settings(
        epochs=3, batch_size=700, bits=(1, 2, 32), warm_start="activations-first", warm_start_epochs=2,
        accelerator="cpu", out=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(StopError):
        fit(settings, on_epoch=stop, show=False)
    last = tmp_path / "run" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    assert evaluate(last, accelerator="cpu").top1 == checkpoint.history[-1]["val/acc"]
    assert set(bits_in_force(load_model(last)).values()) == {(32, 32, 32)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warm_start": "bits"}, "belong together; got warm_start='bits' with warm_start_epochs=0"),
        ({"warm_start_epochs": 3}, "belong together; got warm_start=None with warm_start_epochs=3"),
        ({"warm_start": "bits", "warm_start_epochs": 1}, "must be at least 2, one for each stage"),
        ({"warm_start": "bits", "warm_start_epochs": 30}, r"below epochs \(30\)"),
        ({"warm_start": "slowly", "warm_start_epochs": 3}, "must be one of activations-first, bits, got 'slowly'"),
    ],
)
def test_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**fields)
