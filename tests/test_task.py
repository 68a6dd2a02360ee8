"""Tasks: losses and metrics against plain formulas, labels that are none, and a Trainable that resumes bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.regression import R2Score

from bitorch.data import Augmentation
from bitorch.data.epoch_loader import EpochLoader
from bitorch.input_error import InputError
from bitorch.layers import QConv2d
from bitorch.train import AtomicCheckpointIO, Classifier, Distillation, NonFiniteError, Task, Trainable
from bitorch.train.progress import quiet_lightning
from bitorch.train.recorder import RunRecorder, RunStopped

SAMPLES, BATCH, EPOCHS = 40, 8, 3
STEPS = SAMPLES // BATCH


class Batches(EpochLoader):
    """Batches of tensors, put together by a function of chosen samples."""

    def __init__(self, *tensors: Tensor, make: Any = None, shuffle: bool = True) -> None:
        super().__init__(len(tensors[0]), BATCH, shuffle=shuffle, seed=3)
        self.tensors, self.make = tensors, make

    def _batches(self, epoch: int, chosen: Sequence[Tensor]) -> Iterator[Any]:
        for part in chosen:
            batch = tuple(tensor[part] for tensor in self.tensors)
            yield batch if self.make is None else self.make(*batch)


class Segmenter(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.low = QConv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv2d(6, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.drop(self.norm(self.low(x)).relu()))}


class Two(nn.Module):
    """Two inputs."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 8), nn.Linear(6, 8), nn.Linear(8, outputs)
        self.drop = nn.Dropout(0.2)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        found: Tensor = self.head(self.drop((self.left(u) + self.right(v)).relu()))
        return found


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def whole(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(sum(shape)))


def case(name: str) -> tuple[nn.Module, Task, Batches]:
    """A model, its task and batches of a structure of their own."""
    torch.manual_seed(2)
    if name == "segmentation":
        pixels, labels = whole(0, 256, SAMPLES, 1, 8, 8).to(torch.uint8), whole(0, 3, SAMPLES, 8, 8)
        labels[:, 0, 0] = 255
        return Segmenter(), Task.segmentation(3, ignore_index=255), Batches(pixels, labels)
    u, v = random(SAMPLES, 4), random(SAMPLES, 6)
    if name == "multi-label":
        y = (random(SAMPLES, 5) > 0.5).long()
        return Two(5), Task.multi_label(5), Batches(u, v, y, make=lambda u, v, y: {"u": u, "v": v, "labels": y})
    y = u.sum(1)
    batches = Batches(u, v, y, make=lambda u, v, y: ((u, v), y))
    if name == "own":
        return Two(1), Task.of(lambda output, target: (output.squeeze(1) - target).abs().mean()), batches
    return Two(1), Task.regression(), batches


def train(folder: Path, name: str, *, resume: Path | None = None, stop_after: int | None = None) -> Any:
    """The state, the history and the best epoch's file of a run."""
    model, task, loader = case(name)
    steps: list[pl.Trainer] = []
    recorder = RunRecorder(
        folder,
        lambda row: None,
        is_stop_requested=lambda: steps[0].global_step == stop_after,
        best=task.key,
        larger_is_better=task.larger_is_better,
    )
    with quiet_lightning():
        trainer = pl.Trainer(
            default_root_dir=folder, max_epochs=EPOCHS, accelerator="cpu", logger=False, num_sanity_val_steps=0,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=2, callbacks=[recorder],
            plugins=[AtomicCheckpointIO()],
        )  # fmt: skip
        steps.append(trainer)
        test = Batches(*loader.tensors, make=loader.make, shuffle=False)
        trainer.fit(Trainable(model, task, seed=3), loader, test, ckpt_path=resume)
    for row in recorder.history:
        row.pop("seconds_per_step")
    return model.state_dict(), recorder


@pytest.mark.parametrize("name", ["segmentation", "multi-label", "regression", "own"])
def test_a_resumed_run_of_any_task_equals_a_straight_one(name: str, tmp_path: Path) -> None:
    straight, recorder = train(tmp_path / "straight", name)
    with pytest.raises(RunStopped):
        train(tmp_path / "stopped", name, stop_after=STEPS + 2)
    resumed, again = train(tmp_path / "resumed", name, resume=tmp_path / "stopped" / "last.ckpt")
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert recorder.history == again.history
    task = case(name)[1]
    values = [row[task.key] for row in recorder.history]
    best = values.index(max(values) if task.larger_is_better else min(values))
    assert torch.load(recorder.best_path, weights_only=True)["epoch"] == best
    assert torch.load(recorder.best_path, weights_only=True)["bitorch"]["task"]["best"] == task.best


def test_metrics_are_those_of_plain_formulas(tmp_path: Path) -> None:
    """Against counts in float64, on the last epoch's net in eval mode, over batches of different sizes."""
    for name in ("segmentation", "multi-label", "regression"):
        model, task, loader = case(name)
        module = Trainable(model.eval(), task)
        for index, batch in enumerate(loader):
            module.validation_step(batch, index)
        found = {key: float(metric.compute()) for key, metric in module.val_metrics.items()}  # type: ignore[operator]
        with torch.no_grad():
            outputs, labels = zip(*(evaluated(model, batch) for batch in loader), strict=True)
        z, y = torch.cat(outputs).double(), torch.cat(labels)
        expected = {"segmentation": miou, "multi-label": f1, "regression": mae}[name](z, y)
        assert found == pytest.approx(expected, abs=1e-6), name


def evaluated(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, dict):
        return model(batch["u"], batch["v"]), batch["labels"]
    x, y = batch
    if isinstance(x, tuple):
        return model(*x), y
    return model(x / 255)["out"], y


def miou(z: Tensor, y: Tensor) -> dict[str, float]:
    counts, predicted = y != 255, z.argmax(1)
    ious = []
    for k in range(3):
        is_k, said_k = (y == k) & counts, (predicted == k) & counts
        ious.append(((is_k & said_k).sum() / (is_k | said_k).sum()).item())
    right = ((predicted == y) & counts).sum() / counts.sum()
    return {"miou": sum(ious) / 3, "pixel_acc": right.item()}


def f1(z: Tensor, y: Tensor) -> dict[str, float]:
    held, of_labels = z > 0, []
    for k in range(5):
        both = (held[:, k] & (y[:, k] == 1)).sum()
        all_ = held[:, k].sum() + y[:, k].sum()
        of_labels.append((2 * both / all_).item() if all_ else 0.0)
    return {"f1": sum(of_labels) / 5, "exact": (held.long() == y).all(1).double().mean().item()}


def mae(z: Tensor, y: Tensor) -> dict[str, float]:
    error = z.squeeze(1) - y
    return {"mae": error.abs().mean().item(), "rmse": error.square().mean().sqrt().item()}


def test_losses_are_those_of_plain_formulas() -> None:
    z, y = random(4, 3, 5, 5) - 0.5, whole(0, 3, 4, 5, 5)
    y[0] = 7
    kept = y != 7
    chosen = z.log_softmax(1).movedim(1, -1)[kept].gather(1, y[kept][:, None])
    task = Task.segmentation(3, ignore_index=7)
    assert task.loss({"out": z}, y).item() == pytest.approx(-chosen.mean().item(), rel=1e-6)
    assert task.loss(z, torch.full_like(y, 7)).item() == 0  # and not 0/0
    z, y = random(6, 3) - 0.5, whole(0, 2, 6, 3)
    expected = -(y * z.sigmoid().log() + (1 - y) * (1 - z.sigmoid()).log()).mean()
    assert Task.multi_label(3).loss(z, y).item() == pytest.approx(expected.item(), rel=1e-5)
    column = random(6, 1)
    assert Task.regression().loss(column, random(6)).item() == pytest.approx(
        (column[:, 0] - random(6)).square().mean().item()
    )


def not_a_number(y: Tensor) -> Tensor:
    y[3] = math.nan
    return y


@pytest.mark.parametrize(
    ("task", "output", "target", "message"),
    [
        (Task.classification(3), random(8, 3), whole(0, 3, 8) + torch.eye(8)[5].long() * 9,
         r"^here, sample 5: label (9|10|11) is outside the classes 0…2$"),
        (Task.classification(3), random(8, 3), -whole(1, 2, 8), r"sample 0: label -1 .*; 8 labels of this batch"),
        (Task.classification(3), random(8, 3), random(8, 3), r"must be integers \[8\], .*got float32 labels \[8, 3\]"),
        (Task.classification(3), random(8, 4), whole(0, 3, 8), r"the outputs \[batch, 3\], .*outputs \[8, 4\]"),
        (Task.multi_label(2), random(4, 2), whole(2, 3, 4, 2), "label 2 is neither 0 nor 1"),
        (Task.multi_label(2), random(4, 2), whole(0, 2, 4), r"0 or 1 for each output, in the shape .* \[4, 2\]"),
        (Task.regression(), random(8, 1), not_a_number(random(8)), "^here, sample 3: label nan is not finite$"),
        (Task.regression(), random(8, 3), random(8), r"a number for each output.*\[8, 3\], got float32 labels \[8\]"),
        (Task.regression(), random(8, 3), None, "the labels must be a tensor, got NoneType"),
        (Task.segmentation(3), random(2, 3, 4, 4), whole(3, 4, 2, 4, 4),
         r"sample 0 at \[0, 0\]: label 3 is outside .*--ignore-index"),
        (Task.segmentation(3), random(2, 3, 4, 4), whole(0, 3, 2, 1, 4, 4), r"must be integers \[2, 4, 4\]"),
        (Task.segmentation(3), random(2, 3), whole(0, 3, 2), r"must be integers \[batch, H, W\]"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_named(task: Task, output: Tensor, target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        task.check(output, target, "here")


def test_a_wrong_label_stops_the_run_before_the_step_and_says_where(tmp_path: Path) -> None:
    model, task, loader = case("regression")
    loader.tensors[2][17] = math.nan
    before = model.head.weight.detach().clone()  # type: ignore[union-attr, operator]  # of Two
    ordered = Batches(*loader.tensors, make=loader.make, shuffle=False)
    with (
        quiet_lightning(),
        pytest.raises(InputError, match=r"^training batch 2 of epoch 1, sample 1: label nan is not"),
    ):
        quick_trainer(tmp_path).fit(Trainable(model, task, optimizer=no_step), ordered, ordered)
    assert torch.equal(before, model.head.weight)  # type: ignore[union-attr, arg-type]


def no_step(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def quick_trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder, max_epochs=1, accelerator="cpu", logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **options,
    )  # fmt: skip


def one_epoch(folder: Path, model: nn.Module, task: Task, loader: Batches, **options: Any) -> None:
    with quiet_lightning():
        quick_trainer(folder).fit(Trainable(model, task, **options), loader, loader)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda z, y: (z.squeeze(1) - y) ** 2,
            r"must return a tensor of one number, got torch.float32 \[8\]; take the",
        ),
        (lambda z, y: 0.5, "must return a tensor of one number, got float"),
        (lambda z, y: (z.detach().squeeze(1) - y).mean(), "a number without a gradient.* without detach"),
        (lambda z, y: z.reshape(3, 7), r"raises RuntimeError at test_task\.py:\d+: shape '\[3, 7\]' is invalid"),
        (lambda z, y: z.argmax(1).sum(), "must return a tensor of one number, got torch.int64"),
    ],
)
def test_an_own_loss_that_is_none_says_so(loss: Any, message: str, tmp_path: Path) -> None:
    model, _, loader = case("regression")
    with pytest.raises(InputError, match=message):
        one_epoch(tmp_path, model, Task.of(loss), loader)


def test_own_metrics() -> None:
    task = Task.of(nn.MSELoss(), R2Score())
    assert (task.best, task.larger_is_better, task.name, task.key) == ("R2Score", True, "MSELoss", "val/R2Score")

    def worst(z: Tensor, y: Tensor) -> Tensor:
        return (z.squeeze(1) - y).abs().max()

    with pytest.raises(ValueError, match=r"worst does not say whether larger is better; set worst\.higher_is_better"):
        Task.regression().with_metric(worst)
    worst.higher_is_better = False  # type: ignore[attr-defined]
    task = Task.regression().with_metric(worst)
    assert (list(task.metrics), task.best, task.larger_is_better) == (["mae", "rmse", "worst"], "worst", False)
    metric = task.metrics["worst"]()
    metric.update(torch.tensor([[1.0], [2.0]]), torch.zeros(2))
    metric.update(torch.tensor([[8.0]]), torch.zeros(1))
    assert metric.compute().item() == pytest.approx((2 * 2 + 8) / 3)  # the mean over samples


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        (
            "auc",
            ValueError,
            "metric must be one of mae, rmse, loss for the loss mse, or a metric of your own, got 'auc'",
        ),
        (3, TypeError, "metric must be a name, a torchmetrics.Metric or a function"),
        (R2Score, ValueError, None),
    ],
)
def test_metrics_that_are_none(metric: Any, error: type[Exception], message: str | None) -> None:
    if message is None:
        assert Task.regression().with_metric(metric).best == "R2Score"
        return
    with pytest.raises(error, match=message):
        Task.regression().with_metric(metric)


def test_a_metric_that_raises_is_told(tmp_path: Path) -> None:
    def broken(z: Tensor, y: Tensor) -> float:
        return 1 / 0

    broken.higher_is_better = True  # type: ignore[attr-defined]
    model, task, loader = case("regression")
    with pytest.raises(InputError, match=r"the metric broken raises ZeroDivisionError at test_task\.py:\d+: division"):
        one_epoch(tmp_path, model, task.with_metric(broken), loader)


def test_shapes_that_differ_between_batches_are_told(tmp_path: Path) -> None:
    model, task, loader = case("regression")

    def make(u: Tensor, v: Tensor, y: Tensor) -> Any:
        calls.append(1)
        return ((u[:, :3] if len(calls) == 3 else u, v), y)

    calls: list[int] = []
    message = r"training batch 2 of epoch 1 has inputs \[8, 3\], \[8, 6\], and the first one had \[8, 4\], \[8, 6\]"
    with pytest.raises(InputError, match=message):
        one_epoch(tmp_path, model, task, Batches(*loader.tensors, make=make))


def test_a_teacher_needs_logits(tmp_path: Path) -> None:
    model, task, _ = case("regression")
    with pytest.raises(ValueError, match="those for the loss mse are none; leave distil out"):
        Trainable(model, task, teacher=model)
    model, task, loader = case("segmentation")
    teacher = case("segmentation")[0]
    one_epoch(tmp_path, model, task, loader, teacher=teacher, distillation=Distillation(0.5, 2.0))
    z, v = random(2, 3, 4, 4), random(2, 3, 4, 4) + random(2, 3, 1, 4)
    p, q = (v / 2).double().softmax(1), (z / 2).double().softmax(1)
    expected = 0.5 + 0.5 * 4 * (p * (p.log() - q.log())).sum(1).mean().item()
    assert Distillation(0.5, 2.0).loss(torch.ones(()), z, v).item() == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_any_task(tmp_path: Path) -> None:
    model, _, loader = case("regression")
    with pytest.raises(NonFiniteError, match=r"the loss is inf.*only the loss is not"):
        one_epoch(tmp_path, model, Task.of(lambda z, y: z.sum() * 0 + math.inf), loader)


def test_a_classifier_takes_a_loss_and_a_metric(tmp_path: Path) -> None:
    def focal(z: Tensor, y: Tensor) -> Tensor:
        chosen = z.log_softmax(1).gather(1, y[:, None]).squeeze(1)
        return -((1 - chosen.exp()) ** 2 * chosen).mean()

    model = nn.Linear(4, 3)
    classifier = Classifier(model, 3, loss=focal, metric="loss")
    assert (classifier.task.name, classifier.task.key, classifier.task.larger_is_better) == ("focal", "val/loss", False)
    x, y = random(8, 4), whole(0, 3, 8)
    classifier.validation_step((x, y), 0)
    assert classifier.val_loss.compute().item() == pytest.approx(focal(model(x), y).item())
    with pytest.raises(ValueError, match="label_smoothing is that of the cross-entropy"):
        Classifier(model, 3, loss=focal, label_smoothing=0.1)


def test_pictures_are_augmented_and_floats_are_not() -> None:
    seen: list[Tensor] = []

    class Record(Augmentation):
        def __call__(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    trainable = Trainable(Segmenter(), Task.segmentation(3), augmentation=Record())
    pixels, labels = whole(0, 256, 4, 1, 8, 8).to(torch.uint8), whole(0, 3, 4, 8, 8)
    assert torch.equal(trainable._read((pixels, labels), "", augmented=True).args[0], pixels / 255)
    assert len(seen) == 1
    trainable._read((pixels, labels), "", augmented=False)
    trainable._read((random(4, 1, 8, 8), labels), "", augmented=True)
    assert len(seen) == 1
