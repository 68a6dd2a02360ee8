"""Training: exact resume, the guard against NaN, checkpoints, settings and what a run measures."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import math
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bitorch
from bitorch.data import Augmentation, BatchLoader, Images, load, to_float
from bitorch.layers import QConv2d, QLinear
from bitorch.models import build
from bitorch.quantizations import GradientDoReFa
from bitorch.train import (
    AtomicCheckpointIO,
    Classifier,
    Interrupted,
    NonFiniteError,
    Result,
    Schedule,
    Settings,
    evaluate,
    fit,
    load_model,
    prepare,
    read_checkpoint,
    read_settings,
)
from bitorch.train.files import write_atomically
from bitorch.train.progress import quiet_lightning
from bitorch.train.recorder import RunRecorder, RunStopped

STEPS_PER_EPOCH = 5
EPOCHS = 3

#: A run of a second: one epoch, and a batch so large that it has two steps.
SHORT: dict[str, Any] = {"data": "digits", "model": "lenet-8", "epochs": 1, "batch_size": 700, "accelerator": "cpu"}


def short(**changes: Any) -> Settings:
    return Settings(**{**SHORT, **changes})


def blobs(count: int, num_classes: int = 3) -> Images:
    """Images that a small net learns: the brighter, the higher the class."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % num_classes
    noise = torch.randint(0, 100, (count, 1, 6, 6), generator=generator)
    brightness = labels[:, None, None, None] * (150 // (num_classes - 1))
    return Images((noise + brightness).to(torch.uint8), labels, num_classes)


def small_net(generator: torch.Generator | None = None, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        GradientDoReFa(2, generator=generator),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


class Noise(pl.Callback):
    """A user's callback that draws random numbers, in training and in validation."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        torch.rand(3)

    def on_validation_batch_end(self, *arguments: Any) -> None:
        torch.rand(5)


def small_trainer(folder: Path, **options: Any) -> tuple[pl.Trainer, RunRecorder]:
    stop_after = options.pop("stop_after", None)
    steps: list[pl.Trainer] = []
    recorder = RunRecorder(folder, lambda row: None, is_stop_requested=lambda: steps[0].global_step == stop_after)
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        num_sanity_val_steps=options.pop("sanity_steps", 0),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
        callbacks=[recorder, Noise(), *options.pop("more_callbacks", [])],
        plugins=[AtomicCheckpointIO()],
        **options,
    )
    steps.append(trainer)
    return trainer, recorder


def train_small(
    folder: Path, *, explicit: bool, resume: Path | None = None, seed: int = 3, **options: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train the small net, and return its state and the history without the times."""
    generator = torch.Generator().manual_seed(4) if explicit else None
    classifier = Classifier(
        small_net(generator), 3, augmentation=Augmentation(shift=1, flip=True), schedule=Schedule("cosine"), seed=seed
    )
    images = blobs(16 * STEPS_PER_EPOCH)
    with quiet_lightning():
        trainer, recorder = small_trainer(folder, **options)
        loader = BatchLoader(images, 16, shuffle=True, seed=seed, drop_last=True)
        trainer.fit(classifier, loader, BatchLoader(images, 32, shuffle=False), ckpt_path=resume)
    for row in recorder.history:
        assert row.pop("seconds_per_step") > 0
    return {name: t.clone() for name, t in classifier.model.state_dict().items()}, recorder.history


def assert_same_state(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different


@pytest.mark.parametrize("explicit", [False, True], ids=["global generator", "explicit generator"])
@pytest.mark.parametrize("stop_after", [1, STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 2])
def test_resumed_run_equals_straight_run(tmp_path: Path, explicit: bool, stop_after: int) -> None:
    straight, straight_history = train_small(tmp_path / "straight", explicit=explicit, sanity_steps=1)
    with pytest.raises(RunStopped):
        train_small(tmp_path / "stopped", explicit=explicit, stop_after=stop_after)
    torch.rand(7)  # whatever the user does in between
    last = tmp_path / "stopped" / "last.ckpt"
    assert read_checkpoint(last).step == stop_after
    resumed, resumed_history = train_small(tmp_path / "resumed", explicit=explicit, resume=last)
    assert_same_state(straight, resumed)
    assert straight_history == resumed_history
    assert [row["epoch"] for row in resumed_history] == [1, 2, 3]


def test_run_can_be_stopped_many_times(tmp_path: Path) -> None:
    straight, _ = train_small(tmp_path / "straight", explicit=True)
    resume = None
    for stop_after in (2, 3, 7, 10, 13):
        with pytest.raises(RunStopped):
            train_small(tmp_path / "stopped", explicit=True, stop_after=stop_after, resume=resume)
        resume = tmp_path / "stopped" / "last.ckpt"
    resumed, _ = train_small(tmp_path / "stopped", explicit=True, resume=resume)
    assert_same_state(straight, resumed)


def test_seed_decides_the_run(tmp_path: Path) -> None:
    first, _ = train_small(tmp_path / "a", explicit=False)
    again, _ = train_small(tmp_path / "b", explicit=False)
    other, _ = train_small(tmp_path / "c", explicit=False, seed=5)
    assert_same_state(first, again)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_generators_must_be_those_of_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        train_small(tmp_path, explicit=True, stop_after=2)
    with pytest.raises(ValueError, match=r"generator states for \['1'\], the model has generators in no module"):
        train_small(tmp_path, explicit=False, resume=tmp_path / "last.ckpt")


def test_accumulated_batches_draw_differently(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        seen.append(torch.rand(1))
        return x

    classifier = Classifier(small_net(), 3, augmentation=record)
    with quiet_lightning():
        trainer, _ = small_trainer(tmp_path, accumulate_grad_batches=2, max_steps=2)
        trainer.fit(classifier, BatchLoader(blobs(64), 16, shuffle=True), BatchLoader(blobs(32), 32, shuffle=False))
    assert len({value.item() for value in seen}) == len(seen) == 4


class FailingBatches:
    """Five float batches, of which one is broken."""

    def __init__(self, broken_batch: int, value: float) -> None:
        self._broken_batch, self._value = broken_batch, value

    def __len__(self) -> int:
        return STEPS_PER_EPOCH

    def __iter__(self) -> Any:
        for index in range(STEPS_PER_EPOCH):
            x = torch.linspace(0, 1, 4 * 36).view(4, 1, 6, 6)
            yield x * (self._value if index == self._broken_batch else 1), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_non_finite_step_is_not_made(tmp_path: Path, value: float) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)), 3)
    before: list[dict[str, Tensor]] = []

    class Snapshot(pl.Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            before.append({name: p.detach().clone() for name, p in classifier.model.named_parameters()})

    trainer, _ = small_trainer(tmp_path, more_callbacks=[Snapshot()])
    validation = BatchLoader(blobs(6), 6, shuffle=False)
    with quiet_lightning(), pytest.raises(NonFiniteError) as raised:
        trainer.fit(classifier, FailingBatches(3, value), validation)
    assert len(before) == 4
    assert_same_state(before[3], dict(classifier.model.named_parameters()))
    assert not torch.equal(before[2]["1.weight"], before[3]["1.weight"])
    message = str(raised.value)
    assert message.startswith("step 3 (epoch 1): the loss is")
    assert "Lower the learning rate (now 0.000904508), look" in message
    assert raised.value.step == 3
    assert ("non-finite gradients in 1.weight" if not math.isfinite(value) else "too large to square") in message


#: What Fragile has drawn in each call.
DRAWS: list[float] = []


class Fragile(nn.Module):
    """√x, or x with an infinite gradient, once there were enough batches; draws a random number each time."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls = kind, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        DRAWS.append(torch.rand(()).item())
        if self.calls <= 3:
            return x
        return (x - 9).sqrt() if self.kind == "output" else x + (x - x.detach()).abs().sqrt()


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("output", "The first layer whose output is not finite is 2.fragile (Fragile)."),
        ("gradient", "On the way back the first layer whose output has a gradient that is not finite is 1 (Linear)."),
        ("loss", "The outputs of all layers are finite, and only the loss is not."),
        ("images", "The inputs of the batch are not finite."),
    ],
)
def test_the_layer_that_is_not_finite_is_named(
    tmp_path: Path, kind: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = nn.Sequential()
    inner.add_module("fragile", Fragile(kind) if kind in ("output", "gradient") else nn.Identity())
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), inner, nn.ReLU(), nn.Linear(8, 3))
    cross_entropy = F.cross_entropy
    if kind == "loss":
        calls: list[int] = []

        def infinite(logits: Tensor, y: Tensor, **options: Any) -> Tensor:
            calls.append(1)
            return cross_entropy(logits, y) + (math.inf if len(calls) > 3 else 0)

        monkeypatch.setattr(F, "cross_entropy", infinite)
    trainer, _ = small_trainer(tmp_path)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    broken_batch = 3 if kind == "images" else STEPS_PER_EPOCH
    with quiet_lightning(), pytest.raises(NonFiniteError) as raised:
        trainer.fit(
            Classifier(model, 3), FailingBatches(broken_batch, math.nan), BatchLoader(blobs(6), 6, shuffle=False)
        )
    assert raised.value.step == 3
    assert where in str(raised.value)
    if kind in ("output", "gradient"):  # the failed step was made again, with the same random numbers
        assert DRAWS[-1] == DRAWS[-2] != DRAWS[-3]
    assert hooks == [len(module._forward_hooks) for module in model.modules()]


def test_guard_counts_the_norm_that_adam_squares() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 1e20)
    assert not bitorch.train.guard.is_step_finite(torch.ones(()), [parameter])
    parameter.grad = torch.full((2,), 1e10)
    assert bitorch.train.guard.is_step_finite(torch.ones(()), [parameter])


@pytest.mark.parametrize(
    "error",
    [Interrupted(Path("run/last.ckpt"), signal.SIGTERM), NonFiniteError("a reason", 3, Path("run/last.ckpt"))],
    ids=["Interrupted", "NonFiniteError"],
)
def test_errors_come_out_of_another_process_as_they_were(error: BaseException) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_fit_names_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def poison_second_epoch(self: Augmentation, x: Tensor) -> Tensor:
        calls.append(1)
        return x * (math.nan if len(calls) == 4 else 1)

    monkeypatch.setattr(Augmentation, "__call__", poison_second_epoch)
    out = tmp_path / "run"
    with pytest.raises(
        NonFiniteError, match=r"step 3 \(epoch 2\).* The last good checkpoint is .*last\.ckpt"
    ) as raised:
        fit(short(epochs=2, out=out), show=False)
    assert raised.value.checkpoint == out / "last.ckpt"
    assert all(t.isfinite().all() for t in read_checkpoint(out / "last.ckpt").state_dict.values())


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Two epochs of two steps, W1A2G6 with everything random switched on."""
    out = tmp_path_factory.mktemp("short") / "run"
    return fit(short(epochs=2, bits=(1, 2, 6), shift=1, out=out), show=False)


def test_fit_result(short_run: Result) -> None:
    assert short_run.epochs == 2
    assert [row["step"] for row in short_run.history] == [2, 4]
    assert short_run.last_accuracy == short_run.history[-1]["val/acc"]
    assert short_run.best_accuracy == max(row["val/acc"] for row in short_run.history)
    assert short_run.last_top5 is not None
    assert short_run.seconds_per_step > 0
    with_weights = [layer for layer in short_run.conversion.layers if layer.shape]
    assert [layer.weight_bits for layer in with_weights] == [None, 1, 1, 1, None]
    lines = (short_run.folder / "metrics.csv").read_text().splitlines()
    assert len(lines) == 3
    assert set(lines[0].split(",")) == set(short_run.history[0])
    assert not [path.name for path in short_run.folder.iterdir() if path.name.startswith(".")]


def test_checkpoint_holds_plain_types_and_the_settings(short_run: Result) -> None:
    content = torch.load(short_run.last_checkpoint, weights_only=True)
    settings = content["bitorch"]["info"]["settings"]
    assert json.loads(json.dumps(settings)) == settings
    checkpoint = read_checkpoint(short_run.last_checkpoint)
    assert checkpoint.settings is not None
    assert checkpoint.settings == Settings.from_dict(settings)
    assert checkpoint.settings.out == short_run.folder
    assert (checkpoint.epoch, checkpoint.step) == (2, 4)
    assert checkpoint.history == short_run.history
    assert (checkpoint.input_shape, checkpoint.num_classes) == ((1, 8, 8), 10)
    build("lenet-8", 1, 10).load_state_dict(checkpoint.state_dict)  # fits the float net too


def test_evaluation_equals_a_plain_loop(short_run: Result) -> None:
    images = load("digits").test
    state_before = torch.get_rng_state()
    model = load_model(short_run.last_checkpoint)
    assert torch.equal(torch.get_rng_state(), state_before)
    with torch.no_grad():
        logits = model(to_float(images.images))
    five_best = logits.topk(5).indices
    evaluation = evaluate(short_run.last_checkpoint, accelerator="cpu")
    assert evaluation.images == 360
    assert evaluation.top1 == pytest.approx((logits.argmax(1) == images.labels).double().mean().item())
    assert evaluation.top5 == pytest.approx((five_best == images.labels[:, None]).any(1).double().mean().item())
    assert evaluation.loss == pytest.approx(F.cross_entropy(logits, images.labels).item(), rel=1e-5)
    assert evaluation.top1 == pytest.approx(short_run.last_accuracy)
    assert evaluation.top5 == pytest.approx(short_run.last_top5)
    assert evaluation == evaluate(short_run.last_checkpoint, accelerator="cpu")


def test_best_checkpoint_is_the_first_with_the_highest_accuracy(tmp_path: Path) -> None:
    classifier = Classifier(small_net(), 3)
    accuracies = iter([0.5, 0.7, 0.7])

    class ScriptedRecorder(RunRecorder):
        def _row(self, trainer: pl.Trainer) -> dict[str, float]:
            return {**super()._row(trainer), "val/acc": next(accuracies)}

    with quiet_lightning():
        trainer, recorder = small_trainer(tmp_path)
        recorder.__class__ = ScriptedRecorder  # nothing but the accuracies is different
        trainer.fit(classifier, BatchLoader(blobs(32), 16, shuffle=True), BatchLoader(blobs(32), 32, shuffle=False))
    assert torch.load(recorder.best_path, weights_only=True)["global_step"] == 4
    assert torch.load(recorder.last_path, weights_only=True)["global_step"] == 6


def test_interrupted_fit_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = short(epochs=2, batch_size=250, shift=1, flip=True, out=tmp_path / "straight")
    straight = fit(settings, show=False)
    calls = []
    augment = Augmentation.__call__

    def press_ctrl_c(self: Augmentation, x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)
        return augment(self, x)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Augmentation, "__call__", press_ctrl_c)
    with pytest.raises(Interrupted) as stopped:
        fit(dataclasses.replace(settings, out=tmp_path / "stopped"), show=False)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped.value.signal_number == signal.SIGINT
    checkpoint = read_checkpoint(stopped.value.checkpoint)
    assert (checkpoint.epoch, checkpoint.step) == (1, 8)
    moved = shutil.move(tmp_path / "stopped", tmp_path / "moved")
    resumed = fit(dataclasses.replace(settings, out=None, resume=Path(moved) / "last.ckpt"), show=False)
    assert resumed.folder == tmp_path / "moved"
    assert_same_state(
        read_checkpoint(straight.last_checkpoint).state_dict, read_checkpoint(resumed.last_checkpoint).state_dict
    )
    assert len((resumed.folder / "metrics.csv").read_text().splitlines()) == 3

    def without_times(result: Result) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k != "seconds_per_step"} for row in result.history]

    assert without_times(straight) == without_times(resumed)


def press_in_step_2(monkeypatch: pytest.MonkeyPatch, *numbers: signal.Signals) -> None:
    """Send this process signals while it makes its second step."""
    calls = []

    def press(self: Augmentation, x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            for number in numbers:
                signal.raise_signal(number)
        return x

    monkeypatch.setattr(Augmentation, "__call__", press)


def test_sigterm_stops_like_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    press_in_step_2(monkeypatch, signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        fit(short(batch_size=300, out=tmp_path / "run"), show=False)
    assert stopped.value.signal_number == signal.SIGTERM
    assert read_checkpoint(stopped.value.checkpoint).step == 2


def test_ctrl_c_in_the_last_step_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    press_in_step_2(monkeypatch, signal.SIGINT)
    assert fit(short(out=tmp_path / "run"), show=False).epochs == 1


def test_second_ctrl_c_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    press_in_step_2(monkeypatch, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(short(batch_size=300, out=tmp_path / "run"), show=False)
    assert not isinstance(stopped.value, Interrupted)
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is handler


def test_fit_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    def surroundings() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            logging.getLogger("lightning.pytorch").level,
            torch.get_num_threads(),
        ]

    before = surroundings()
    fit(short(out=tmp_path / "run"), show=False)
    assert surroundings() == before


@pytest.mark.parametrize("is_exact", [True, False])
@pytest.mark.parametrize("was_exact", [True, False])
def test_deterministic_operations_inside_a_run_only(tmp_path: Path, is_exact: bool, was_exact: bool) -> None:
    seen = []
    torch.use_deterministic_algorithms(was_exact)
    try:
        fit(
            short(deterministic=is_exact, out=tmp_path / "run"),
            on_epoch=lambda row: seen.append(torch.are_deterministic_algorithms_enabled()),
            show=False,
        )
        assert seen == [is_exact or was_exact]
        assert torch.are_deterministic_algorithms_enabled() == was_exact
    finally:
        torch.use_deterministic_algorithms(False)


def test_fit_prints_a_table_and_a_line_per_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, float]] = []
    fit(short(out=tmp_path / "run"), on_epoch=rows.append)
    printed = capsys.readouterr()
    assert "QConv2d" in printed.out
    epochs = [line for line in printed.out.splitlines() if line.startswith("epoch")]
    assert len(epochs) == len(rows) == 1
    assert epochs[0].startswith("epoch 1/1  train loss ")
    assert printed.err == ""


def full_disk(real_save: Callable[..., None]) -> Callable[..., None]:
    """torch.save on a disk that is full half-way through the second file."""
    files = []

    def save(content: Any, file: Any) -> None:
        files.append(1)
        if len(files) == 2:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_save(content, file)

    return save


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(torch, "save", full_disk(torch.save))
    with pytest.raises(
        OSError, match=r"cannot write the checkpoint .*last\.ckpt: No space left on device\. The one"
    ) as e:
        fit(short(epochs=3, out=out), show=False)
    assert str(out) in str(e.value)
    assert read_checkpoint(out / "last.ckpt").epoch == 1
    assert read_checkpoint(out / "best.ckpt").epoch == 1
    assert not list(out.glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
def test_failing_write_leaves_no_half_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write the checkpoint .*: File too large; .*\. The one written"):
            AtomicCheckpointIO().save_checkpoint({"epoch": 2, "weights": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_names_the_file(tmp_path: Path) -> None:
    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "metrics.csv"
    path.write_text("old")
    with pytest.raises(OSError, match=r"No space left on device; make space, or choose another .* --out") as raised:
        write_atomically(path, full)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder_is_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "run", Path("/proc/bitorch-run")):
        with pytest.raises(OSError, match=f"cannot write to the folder {out}: .*; choose another one with --out"):
            prepare(short(out=out))


def test_too_little_space_is_an_error_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(OSError, match=r"run has 1\.0 MB free, and this run needs .* MB"):
        prepare(short(out=tmp_path / "run"))
    assert not (tmp_path / "run" / "settings.yaml").exists()


def test_default_folder_is_always_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [prepare(short()).folder for _ in range(3)]
    assert [folder.as_posix() for folder in folders] == [
        "runs/digits-lenet-8-w1a2g6-seed0",
        "runs/digits-lenet-8-w1a2g6-seed0-2",
        "runs/digits-lenet-8-w1a2g6-seed0-3",
    ]


def test_folder_of_another_run_is_not_taken(short_run: Result) -> None:
    before = short_run.last_checkpoint.read_bytes()
    with pytest.raises(ValueError, match=r"out: .* holds a run already"):
        prepare(short(out=short_run.folder))
    assert short_run.last_checkpoint.read_bytes() == before


def test_checkpoint_of_another_architecture(short_run: Result, tmp_path: Path) -> None:
    for name in ("init", "resume"):
        with pytest.raises(ValueError, match=r"does not fit the model ResNet20: it lacks .* and \d+ more") as raised:
            prepare(short(model="resnet-20", out=tmp_path / "r", **{name: short_run.last_checkpoint}))
        assert "last.ckpt (lenet-8, bits 1 2 6)" in str(raised.value)
        assert "it has besides layers.0.weight" in str(raised.value)


def test_shapes_that_differ_are_named(short_run: Result) -> None:
    checkpoint = read_checkpoint(short_run.last_checkpoint)
    with pytest.raises(
        ValueError, match=r"other shapes in layers\.14\.weight \[10, 128\] instead of \[7, 128\], layers"
    ):
        bitorch.train.checkpoint.load_weights(build("lenet-8", 1, 7), checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": (1, 4, 6)}, r"bits is \(1, 4, 6\), but the run of .* has \(1, 2, 6\)"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"seed": 1}, "seed is 1, but the run of .* has 0"),
        ({"devices": 2}, "processes is 2, but the run of .* has 1"),
        ({"exact": False}, "exact is False, but the run of .* has True"),
        ({"epochs": 2}, "has finished its 2 epochs; to go on, raise epochs"),
    ],
)
def test_resume_keeps_what_must_not_change(short_run: Result, change: dict[str, Any], message: str) -> None:
    settings = short(**{"epochs": 3, "resume": short_run.last_checkpoint, **change})
    with pytest.raises(ValueError, match=message):
        prepare(settings)


def test_resumed_elsewhere_the_best_checkpoint_comes_along(short_run: Result, tmp_path: Path) -> None:
    before = short_run.best_checkpoint.read_bytes()
    # Hardly any learning, so that no further epoch is likely to be better than the first two.
    settings = short(epochs=3, bits=(1, 2, 6), shift=1, lr=1e-9, resume=short_run.last_checkpoint, out=tmp_path / "b")
    assert prepare(settings).folder == tmp_path / "b"
    assert (tmp_path / "b" / "best.ckpt").read_bytes() == before
    result = fit(dataclasses.replace(settings, out=tmp_path / "c"), show=False)
    rows = read_checkpoint(result.best_checkpoint).history
    assert max(row["val/acc"] for row in rows) == result.best_accuracy
    assert short_run.best_checkpoint.read_bytes() == before


def test_settings_file_of_a_resumed_run_starts_a_new_one(short_run: Result, tmp_path: Path) -> None:
    settings = short(epochs=3, bits=(1, 2, 6), shift=1, resume=short_run.last_checkpoint, out=tmp_path / "run")
    prepare(settings)
    fields = read_settings(tmp_path / "run" / "settings.yaml")
    assert Settings.from_dict(fields) == dataclasses.replace(settings, resume=None, out=None)


def test_init_starts_from_the_float_twin(tmp_path: Path) -> None:
    twin = fit(short(bits=(32, 32, 32), out=tmp_path / "float"), show=False)
    assert {layer.became for layer in twin.conversion.layers} == {"float"}
    run = prepare(short(init=twin.last_checkpoint, out=tmp_path / "low-bit"))
    assert_same_state(run.model.state_dict(), read_checkpoint(twin.last_checkpoint).state_dict)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"hello", b"\x80\x02hello", b"PK\x03\x04 broken"])
def test_damaged_checkpoint_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt is not a checkpoint, or a damaged one"):
        read_checkpoint(path)


def test_other_files_are_not_checkpoints(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a checkpoint of bitorch's Classifier"):
        read_checkpoint(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "missing.ckpt")
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a checkpoint in it, such as .*best\.ckpt"):
        read_checkpoint(tmp_path)


def test_model_must_fit_the_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model lenet-28 cannot take the 1×8×8 images of digits"):
        prepare(short(model="lenet-28", out=tmp_path))
    with pytest.raises(ValueError, match=r"model svhn-d cannot take the 1×8×8 .* With --pad-to 40 the images are"):
        prepare(short(model="svhn-d", out=tmp_path))
    with pytest.raises(ValueError, match=r"pad_to must be 0, or at least 8, because .* digits are 8×8, got 7"):
        prepare(short(pad_to=7, out=tmp_path))
    with pytest.raises(ValueError, match=r"batch_size must be at least 2, because model lenet-8 has batch .* got 1"):
        prepare(short(batch_size=1, out=tmp_path))
    with pytest.raises(ValueError, match=r"width must be above 0.03125, .* got 0.001"):
        prepare(short(model="resnet-20", width=0.001, out=tmp_path))
    with pytest.raises(ValueError, match=r"batch_size must be at most 1437, because there are 1437 .* got 2000"):
        prepare(short(batch_size=2000, out=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"optimizer": "sgd", "nesterov": True, "weight_decay": 1e-4, "lr": 0.01},
        {"schedule": "step", "milestones": (1,), "epochs": 2, "warmup_epochs": 0.5, "label_smoothing": 0.1},
        {"first": "8", "last": "8", "bits": (2, 2, 32)},
        {"deterministic": False, "schedule": "constant"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_train(tmp_path: Path, options: dict[str, Any]) -> None:
    result = fit(short(batch_size=350, **options, out=tmp_path / "run"), show=False)
    losses = [row["train/loss"] for row in result.history]
    assert all(math.isfinite(loss) for loss in losses)
    state = read_checkpoint(result.last_checkpoint).state_dict
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float32}
    assert all(t.isfinite().all() for t in state.values())


def test_padded_images_fit_the_svhn_nets(tmp_path: Path) -> None:
    result = fit(short(model="svhn-d", pad_to=40, batch_size=1024, out=tmp_path / "run"), show=False)
    assert [row["step"] for row in result.history] == [1]
    assert read_checkpoint(result.last_checkpoint).input_shape == (1, 40, 40)
    evaluation = evaluate(result.last_checkpoint, "digits", accelerator="cpu")
    assert evaluation.top1 == pytest.approx(result.last_accuracy)


def test_resumed_run_keeps_its_padding(tmp_path: Path) -> None:
    net = {"model": "resnet-20", "width": 0.125}
    result = fit(short(**net, pad_to=12, out=tmp_path / "run"), show=False)
    with pytest.raises(ValueError, match=r"pad_to is 16, but the run of .* has 12 and keeps it"):
        prepare(short(**net, pad_to=16, epochs=2, resume=result.last_checkpoint))


@pytest.mark.parametrize("exact", [True, False])
def test_exact_reaches_the_layers(tmp_path: Path, exact: bool) -> None:
    run = prepare(short(exact=exact, out=tmp_path / "run"))
    assert {m.exact for m in run.model.modules() if isinstance(m, QConv2d | QLinear)} == {exact}


def test_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    options = {"epochs": 3, "schedule": "step", "milestones": (1, 2), "gamma": 0.5, "lr": 0.004}
    result = fit(short(**options, out=tmp_path / "run"), show=False)
    assert [row["lr"] for row in result.history] == pytest.approx([0.004, 0.002, 0.001])


def run_once(classifier: Classifier, batches: Any, validation: Any) -> dict[str, float]:
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(classifier, batches, validation)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_float_batches_are_taken_as_they_are() -> None:
    images = blobs(32)

    class FloatLoader(BatchLoader):
        def __iter__(self) -> Any:
            return ((to_float(x), y) for x, y in super().__iter__())

    as_float = FloatLoader(images, 16, shuffle=False)

    def augmentation(x: Tensor) -> Tensor:
        raise AssertionError("float images are not augmented")

    metrics = [
        run_once(Classifier(small_net(), 3, augmentation=augment), batches, as_float)
        for batches, augment in ((as_float, augmentation), (BatchLoader(images, 16, shuffle=False), None))
    ]
    assert metrics[0] == metrics[1]
    assert "val/top5" not in metrics[0]


def test_augmentation_is_for_training_only() -> None:
    sizes = []

    def augmentation(x: Tensor) -> Tensor:
        assert x.is_floating_point()
        sizes.append(len(x))
        return x

    run_once(
        Classifier(small_net(), 3, augmentation=augmentation),
        BatchLoader(blobs(32), 16, shuffle=True),
        BatchLoader(blobs(30), 10, shuffle=False),
    )
    assert sizes == [16, 16]


def test_metrics_equal_a_plain_loop() -> None:
    """With a learning rate of nothing every batch sees the same model, so the sums can be taken by hand."""
    images = blobs(50, num_classes=8)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    classifier = Classifier(
        model, 8, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0), label_smoothing=0.2
    )
    metrics = run_once(classifier, BatchLoader(images, 16, shuffle=True), BatchLoader(images, 32, shuffle=False))
    with torch.no_grad():
        logits = model(to_float(images.images))
    accuracy = (logits.argmax(1) == images.labels).double().mean().item()
    assert metrics["train/acc"] == pytest.approx(accuracy)
    assert metrics["val/acc"] == pytest.approx(accuracy)
    in_five = (logits.topk(5).indices == images.labels[:, None]).any(1)
    assert metrics["val/top5"] == pytest.approx(in_five.double().mean().item())
    assert 0 < metrics["val/top5"] < 1
    smoothed = F.cross_entropy(logits, images.labels, label_smoothing=0.2).item()
    assert metrics["train/loss"] == pytest.approx(smoothed, rel=1e-5)
    assert metrics["val/loss"] == pytest.approx(F.cross_entropy(logits, images.labels).item(), rel=1e-5)


def test_nan_in_validation_is_seen() -> None:
    class OneNanBatch(BatchLoader):
        def __iter__(self) -> Any:
            for index, (x, y) in enumerate(super().__iter__()):
                yield to_float(x) * (math.nan if index == 1 else 1), y

    images = blobs(32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    loaders = BatchLoader(images, 16, shuffle=False), OneNanBatch(images, 8, shuffle=False)
    metrics = run_once(Classifier(model, 3), *loaders)
    assert math.isnan(metrics["val/loss"])
    assert math.isfinite(metrics["train/loss"])


def test_classifier_checks_its_arguments() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        Classifier("lenet-8", 10)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"teacher must be a torch\.nn\.Module, got str"):
        Classifier(nn.Linear(2, 2), 2, teacher="best.ckpt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        Classifier(nn.Linear(2, 1), 1)
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and below 1, got 1"):
        Classifier(nn.Linear(2, 2), 2, label_smoothing=1)
    with pytest.raises(ValueError, match="there is nothing to train"):
        Classifier(nn.Flatten(), 2).configure_optimizers()


@given(
    kind=st.sampled_from(["cosine", "step", "constant"]),
    every=st.sampled_from(["step", "epoch"]),
    steps_per_epoch=st.integers(1, 50),
    epochs=st.integers(2, 40),
    warmup=st.floats(0, 1.9),
    data=st.data(),
)
def test_schedule(kind: Any, every: Any, steps_per_epoch: int, epochs: int, warmup: float, data: st.DataObject) -> None:
    milestones = tuple(sorted(data.draw(st.sets(st.integers(1, epochs - 1)))))
    schedule = Schedule(kind, every, milestones, 0.5, warmup)
    factors = [schedule.factor(step, steps_per_epoch, epochs) for step in range(steps_per_epoch * epochs)]
    assert all(0 <= factor <= 1 for factor in factors)
    warmed_up = factors[math.ceil(warmup) * steps_per_epoch :]
    assert warmed_up == sorted(warmed_up, reverse=True)
    if every == "epoch":
        assert all(len(set(factors[e * steps_per_epoch : (e + 1) * steps_per_epoch])) == 1 for e in range(epochs))
    if kind == "step" and warmed_up:
        assert factors[-1] == pytest.approx(0.5 ** len(milestones))
    if kind == "constant":
        assert set(warmed_up) <= {1.0}


def test_cosine_by_hand() -> None:
    schedule = Schedule("cosine", warmup_epochs=1)
    factors = [schedule.factor(step, steps_per_epoch=2, epochs=3) for step in range(6)]
    assert factors == pytest.approx(
        [0.5, 1, 1, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 - math.cos(math.pi / 4))]
    )


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"bits": (1, 0, 6)}, ValueError, r"bits \(of activations\) must be one of 1…8, or 32 for none, got 0"),
        ({"bits": (1, 2)}, ValueError, r"bits must have 3 values, got \(1, 2\)"),
        ({"bits": 1}, TypeError, "bits must be a list, got 1"),
        ({"bits": (1, 2.5, 6)}, TypeError, "bits must be an integer, got 2.5"),
        ({"model": "lenet-9"}, ValueError, "model must be one of svhn-a, .*, got 'lenet-9'"),
        ({"data": "cifar"}, ValueError, "data must be one of digits, mnist, .*, got 'cifar'; did you mean cifar10?"),
        ({"first": "16"}, ValueError, "first must be one of float, 8, same, got '16'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": True}, TypeError, "epochs must be an integer, got True"),
        ({"epochs": 2.0}, TypeError, "epochs must be an integer, got 2.0"),
        ({"lr": 0.0}, ValueError, "lr must be above 0, got 0.0"),
        ({"lr": math.nan}, ValueError, "lr must be a number, got NaN"),
        ({"lr": math.inf}, ValueError, "lr must be above 0, got inf"),
        ({"lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
        ({"flip": 1}, TypeError, "flip must be true or false, got 1"),
        ({"folder": 3}, TypeError, "folder must be a path, got 3"),
        ({"momentum": 1.0}, ValueError, "momentum must be at least 0 and below 1, got 1.0"),
        ({"nesterov": True}, ValueError, 'nesterov needs optimizer="sgd"'),
        ({"milestones": (3,)}, ValueError, 'milestones belong to schedule="step"'),
        ({"schedule": "step"}, ValueError, "which needs at least one"),
        ({"schedule": "step", "milestones": (5, 3)}, ValueError, "milestones must rise"),
        ({"schedule": "step", "milestones": (30,)}, ValueError, "at most epochs − 1 = 29"),
        ({"warmup_epochs": 30}, ValueError, r"warmup_epochs must be below epochs \(30\), got 30.0"),
        ({"gamma": 0}, ValueError, "gamma must be above 0 and at most 1, got 0.0"),
        ({"shift": 1, "pad_crop": 1}, ValueError, "shift=1 and pad_crop=1"),
        ({"shift": -1}, ValueError, "shift must be at least 0, got -1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": 2**63}, ValueError, r"seed must be below 2\*\*63, got 9223372036854775808"),
        ({"pad_to": -1}, ValueError, "pad_to must be at least 0, got -1"),
        ({"devices": 0}, ValueError, "devices must be at least 1, got 0"),
        ({"precision": 16}, ValueError, "precision must be one of 32, bf16, got 16"),
        ({"resume": "a", "init": "b"}, ValueError, "resume and init exclude each other"),
    ],
)
def test_settings_errors_name_the_field(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Settings(**fields)


settings_strategy = st.builds(
    Settings,
    model=st.sampled_from(["lenet-8", "resnet-20"]),
    bits=st.tuples(*[st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])] * 3),
    first=st.sampled_from(["float", "8", "same"]),
    epochs=st.integers(2, 1000),
    lr=st.floats(1e-12, 1e3),
    schedule=st.just("step"),
    milestones=st.just((1,)),
    flip=st.booleans(),
    precision=st.sampled_from(["32", "bf16"]),
    out=st.none() | st.just(Path("some") / "where: else"),
)


@given(settings_strategy)
def test_settings_survive_json_and_yaml(settings: Settings) -> None:
    fields = settings.to_dict()
    assert Settings.from_dict(json.loads(json.dumps(fields))) == settings
    assert Settings.from_dict(yaml.safe_load(yaml.safe_dump(fields))) == settings


def test_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 3\nlr: 1e-2\nprecision: 32\nlast: 8\nbits: [1, 4, 32]\nout: some/where\n")
    settings = Settings.from_dict(read_settings(path))
    assert (settings.epochs, settings.lr, settings.precision, settings.last) == (3, 0.01, "32", "8")
    assert (settings.bits, settings.out) == ((1, 4, 32), Path("some/where"))
    path.write_text('{"epochs": 4}')
    assert read_settings(path) == {"epochs": 4}
    path.write_text("")
    assert read_settings(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epocs: 3", r"run\.yaml: unknown setting 'epocs'; did you mean 'epochs'\?"),
        ("zzzzz: 3", "unknown setting 'zzzzz'; bitorch train --help-all lists all"),
        ("- 3", "must hold a mapping like `epochs: 30`, got list"),
        ("a: [", "is not YAML or JSON"),
        ("!!python/object/apply:os.system ['true']", "is not YAML or JSON"),
    ],
)
def test_settings_file_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(path)


def test_settings_file_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"is a folder; it must be a YAML or JSON file"):
        read_settings(tmp_path)
    (tmp_path / "run.yaml").write_bytes(b"data: \xff")
    with pytest.raises(ValueError, match=r"run\.yaml is not YAML or JSON .*: is not UTF-8 text"):
        read_settings(tmp_path / "run.yaml")


def test_hardware_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("gpu", "mps"):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(ValueError, match=f"accelerator is '{accelerator}', but PyTorch finds none here"):
            prepare(short(accelerator=accelerator, out=tmp_path / "run"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="devices must be at most 2, the number of devices of this machine, got 3"):
        prepare(short(accelerator="gpu", devices=3, out=tmp_path / "run"))


def test_checkpoint_of_more_processes(tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        train_small(tmp_path, explicit=False, stop_after=2)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    content["bitorch"]["ranks"] *= 2
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="the checkpoint is of 2 processes, this run has 1"):
        train_small(tmp_path, explicit=False, resume=tmp_path / "last.ckpt")


def test_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'bitorch\.train' has no attribute 'Trainer'"):
        bitorch.train.Trainer  # noqa: B018
