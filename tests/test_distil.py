"""Learning from a teacher: the loss against plain NumPy, and runs that have one."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from bitorch.cli import main
from bitorch.data import Augmentation, BatchLoader
from bitorch.train import Classifier, Distillation, Interrupted, Result, Settings, fit, read_checkpoint
from bitorch.train.distillation import fingerprint
from test_train import assert_same_state, blobs, run_once, short, small_net

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


def oracle(z: np.ndarray, v: np.ndarray, y: np.ndarray, weight: float, temperature: float) -> float:
    """The loss of Distillation's docstring in float64."""
    labels = -log_softmax(z, axis=1)[np.arange(len(y)), y].mean()
    q = softmax(v / temperature, axis=1)
    soft = (q * (np.log(q) - log_softmax(z / temperature, axis=1))).sum(axis=1).mean()
    return float((1 - weight) * labels + weight * temperature**2 * soft)


@given(
    batch=st.integers(1, 5),
    classes=st.integers(2, 6),
    weight=st.floats(0, 1),
    temperature=st.floats(0.5, 20),
    seed=st.integers(0, 99),
)
def test_loss_against_numpy(batch: int, classes: int, weight: float, temperature: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    z, v = generator.normal(0, 3, (2, batch, classes))
    y = generator.integers(0, classes, batch)
    logits = torch.tensor(z, dtype=torch.float32, requires_grad=True)
    teacher = torch.tensor(v, dtype=torch.float32, requires_grad=True)
    labels = F.cross_entropy(logits, torch.tensor(y))
    loss = Distillation(weight, temperature).loss(labels, logits, teacher)
    assert loss.item() == pytest.approx(oracle(z, v, y, weight, temperature), rel=1e-4, abs=1e-4)
    loss.backward()
    assert teacher.grad is None
    # d/dz of the soft term is λ·T·(q(z) − q(v)) per sample; of the labels' term (1 − λ)·(q₁(z) − one-hot).
    soft = softmax(z / temperature, axis=1) - softmax(v / temperature, axis=1)
    hard = softmax(z, axis=1) - np.eye(classes)[y]
    expected = (weight * temperature * soft + (1 - weight) * hard) / batch
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-4)


def test_a_teacher_that_agrees_costs_nothing() -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5], [0.0, 0.0, 1e4]])
    assert Distillation(1.0, 2.0).loss(torch.tensor(5.0), logits, logits).item() == 0
    assert Distillation(0.0, 2.0).loss(torch.tensor(5.0), logits, logits + 1).item() == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -0.1}, "weight must be at least 0 and at most 1, got -0.1"),
        ({"weight": float("nan")}, "weight must be at least 0 and at most 1, got nan"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": float("inf")}, "temperature must be above 0, got inf"),
    ],
)
def test_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(**arguments)


def test_teacher_of_other_classes() -> None:
    with pytest.raises(ValueError, match=r"teacher returns \[2, 4\] and the student \[2, 3\]; both must have the same"):
        Distillation().loss(torch.zeros(()), torch.zeros(2, 3), torch.zeros(2, 4))


class Watched(nn.Module):
    """Logits from the mean of the image, and a note of the mode it ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        logits: Tensor = self.dropout(x.mean((1, 2, 3))[:, None] * self.scale * torch.tensor([-9.0, 0.0, 9.0]))
        return logits


def test_the_teacher_is_not_trained_and_not_kept() -> None:
    teacher = Watched().train()
    model = small_net()
    classifier = Classifier(model, 3, teacher=teacher, distillation=Distillation(1.0, 2.0))
    names = {name for name, _ in classifier.named_parameters()}
    assert names == {f"model.{name}" for name, _ in model.named_parameters()}
    assert [key for key in classifier.state_dict() if key.startswith("model.")] == [
        f"model.{k}" for k in model.state_dict()
    ]
    before = teacher.scale.detach().clone()
    images = blobs(32)
    run_once(classifier, BatchLoader(images, 16, shuffle=True), BatchLoader(images, 32, shuffle=False))
    assert torch.equal(teacher.scale, before)
    assert teacher.scale.grad is None
    assert teacher.modes == [(False, False)] * 2  # once for each training batch, and not in validation


class Wrapped(nn.Module):
    """Logits in a dict, beside other things, as Hugging Face returns them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> dict[str, Any]:
        logits = self.model(x)
        return {"loss": None, "logits": logits, "hidden": (logits * 2, x)}


def test_student_and_teacher_may_return_more_than_logits() -> None:
    images = blobs(32)
    metrics = [
        run_once(
            Classifier(wrap(small_net()), 3, teacher=wrap(Watched()), distillation=Distillation(0.5, 2.0)),
            BatchLoader(images, 16, shuffle=False),
            BatchLoader(images, 32, shuffle=False),
        )
        for wrap in (lambda model: model, Wrapped)
    ]
    assert metrics[0] == metrics[1]
    with pytest.raises(TypeError, match="returns a tuple without a floating-point tensor; return logits alone, or a"):
        Classifier(nn.Sequential(Nothing()), 3)(images.images)


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> tuple[int, ...]:
        return (len(x),)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A float net of two epochs."""
    out = tmp_path_factory.mktemp("twin") / "run"
    return fit(short(bits=(32, 32, 32), epochs=2, out=out), show=False)


def distilled(twin: Result, **changes: Any) -> Settings:
    return short(
        **{"epochs": 2, "batch_size": 250, "distil": twin.best_checkpoint, "distil_temperature": 2.0, **changes}
    )


def test_interrupted_run_resumes_to_the_same_weights(
    twin: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = fit(distilled(twin, out=tmp_path / "straight"), show=False)
    plain = fit(distilled(twin, distil=None, out=tmp_path / "plain"), show=False)
    calls: list[int] = []
    augment = Augmentation.__call__

    def press_ctrl_c(self: Augmentation, x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return augment(self, x)

    monkeypatch.setattr(Augmentation, "__call__", press_ctrl_c)
    with pytest.raises(Interrupted) as stopped:
        fit(distilled(twin, out=tmp_path / "stopped"), show=False)
    monkeypatch.undo()
    settings = read_checkpoint(stopped.value.checkpoint).settings
    assert settings is not None
    resumed = fit(dataclasses.replace(settings, out=None, resume=stopped.value.checkpoint), show=False)
    states = [read_checkpoint(run.last_checkpoint).state_dict for run in (straight, resumed, plain)]
    assert_same_state(states[0], states[1])
    assert not torch.equal(states[0]["layers.0.weight"], states[2]["layers.0.weight"])
    assert states[0].keys() == read_checkpoint(twin.last_checkpoint).state_dict.keys()


def test_resuming_with_another_teacher_is_refused(twin: Result, tmp_path: Path) -> None:
    run = fit(distilled(twin, epochs=1, out=tmp_path / "run"), show=False)
    other = fit(short(bits=(32, 32, 32), seed=1, out=tmp_path / "other"), show=False)
    for distil, message in (
        (other.last_checkpoint, r"had a teacher with other weights than distil: .*other/last\.ckpt; a run keeps"),
        (None, "had a teacher, and distil is not given; a run keeps its teacher when it is resumed"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(distilled(twin, distil=distil, resume=run.last_checkpoint), show=False)
    with pytest.raises(ValueError, match="had no teacher, and distil is given"):
        fit(short(bits=(32, 32, 32), seed=1, epochs=2, resume=other.last_checkpoint, distil=twin.last_checkpoint))
    with pytest.raises(ValueError, match=r"distil_weight is 0\.25, but the run of .* has 0\.5"):
        fit(distilled(twin, distil_weight=0.25, resume=run.last_checkpoint), show=False)


def test_the_teacher_must_know_the_images(twin: Result, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"was trained on images \(1, 8, 8\) .* and this run has images \(1, 12, 12\)"):
        fit(short(model="resnet-20", pad_to=12, distil=twin.last_checkpoint, out=tmp_path / "run"), show=False)
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint missing\.ckpt"):
        fit(short(distil="missing.ckpt", out=tmp_path / "run"), show=False)
    assert list(tmp_path.iterdir()) == []


def test_command_line(twin: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--distil", str(twin.best_checkpoint), "--distil-weight", "0.75", "--distil-temperature", "3"]
    common = ["--batch-size", "700", "--accelerator", "cpu"]
    assert main(["train", "--epochs", "1", *common, *flags, "--out", str(tmp_path / "run")]) == 0
    last = tmp_path / "run" / "last.ckpt"
    settings = read_checkpoint(last).settings
    assert settings is not None
    assert (settings.distil, settings.distil_weight) == (twin.best_checkpoint, 0.75)
    assert settings.distillation == Distillation(0.75, 3.0)
    assert main(["train", "--resume", str(last), "--epochs", "2"]) == 0
    capsys.readouterr()
    assert main(["train", "--distil-weight", "2"]) == 2
    assert "distil_weight must be at least 0 and at most 1, got 2.0" in capsys.readouterr().err


def test_fingerprint() -> None:
    first = fingerprint(small_net())
    assert first == fingerprint(small_net())
    other = small_net()
    with torch.no_grad():
        bias = dict(other.named_parameters())["0.bias"]
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert fingerprint(other) != first
