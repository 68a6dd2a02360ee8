"""What a net is trained for: its loss, what is measured, and which measure chooses the best checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassJaccardIndex,
    MultilabelExactMatch,
    MultilabelF1Score,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from ..input_error import telling
from ..objective import Loss
from ..outputs import logits_of
from . import targets
from .own_functions import CheckedLoss, metric_of

#: What an output says: a class, labels that each hold or not, numbers, a class for each pixel; or what its loss knows.
Prediction = Literal["classes", "labels", "values", "pixels", "own"]
#: The name of val/loss among metrics.
LOSS = "loss"
_IGNORED = -100  # PyTorch's own default
_REMEDY = "return them alone, or in a dict under 'logits', or train with a loss of your own"


@dataclass(frozen=True)
class Task:
    """What a net is trained for. `classification`, `multi_label`, `regression`, `segmentation` and `of` make one.

    Attributes:
        name: "cross-entropy", "bce", "mse", "pixels", or the name of an own loss.
        loss: from the model's whole output and the labels to the mean loss, a tensor of one number; val/loss.
        metrics: by name, a function that makes a torchmetrics.Metric; each is logged as val/NAME.
        best: the metric that chooses best.ckpt, or "loss".
        larger_is_better: whether its best value is the largest.
        prediction: what the outputs are.
        outputs: number of classes, labels or values of an output; None where only the loss knows.
        judged: from whole output and labels to the two things that metrics are updated with.
        own_judged: the same for metrics of the user's own, by name: functions get whole output and labels.
        check: raises InputError, in words that begin with its last argument, where labels are not those of the task.
        training_loss: where training has another loss than `loss`, such as one with label smoothing.
        is_of_table: outputs and labels alone ask for this loss, by the table of docs/training.md.
    """

    name: str
    loss: Loss
    metrics: Mapping[str, Callable[[], Metric]]
    best: str
    larger_is_better: bool
    prediction: Prediction = "own"
    outputs: int | None = None
    judged: Callable[[Any, Any], tuple[Any, Any]] = field(default=lambda output, target: (output, target))
    check: Callable[[Any, Any, str], None] = field(default=lambda output, target, where: None)
    training_loss: Loss | None = None
    is_of_table: bool = False
    own_judged: Mapping[str, Callable[[Any, Any], tuple[Any, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.best != LOSS and self.best not in self.metrics:
            raise ValueError(f"best must be one of {', '.join([*self.metrics, LOSS])}, got {self.best!r}")

    @staticmethod
    def classification(num_classes: int, label_smoothing: float = 0.0) -> Task:
        """Return the task of one class for each input: outputs [B, num_classes], labels int [B].

        Training has the cross-entropy, with label_smoothing as the share of the target that is spread over all classes,
        in [0, 1); metrics are the accuracy "acc" and, with more than 5 classes, "top5", in [0, 1].

        Raises:
            ValueError: num_classes below 2, label_smoothing out of range.
        """
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        metrics = {"acc": partial(_accuracy, num_classes, 1)}
        if num_classes > 5:
            metrics["top5"] = partial(_accuracy, num_classes, 5)
        return Task(
            "cross-entropy",
            _cross_entropy,
            metrics,
            best="acc",
            larger_is_better=True,
            prediction="classes",
            outputs=num_classes,
            judged=_logits_and_labels,
            check=partial(targets.check_classes, num_classes=num_classes),
            training_loss=partial(smoothed_cross_entropy, label_smoothing=label_smoothing),
            is_of_table=True,
        )

    @staticmethod
    def multi_label(labels: int) -> Task:
        """Return the task of labels that each hold or not: outputs [B, n], labels 0 or 1 of that shape (or [B] for 1).

        The loss is the binary cross-entropy with logits. A label is predicted where its output is above 0. Metrics are
        "f1", the mean of the labels' F1, and "exact", the share of inputs with all labels right, in [0, 1].

        Raises:
            ValueError: labels below 1.
        """
        _check_outputs("labels", labels)
        return Task(
            "bce",
            _binary_cross_entropy,
            {
                "f1": partial(MultilabelF1Score, labels, validate_args=False),
                "exact": partial(MultilabelExactMatch, labels, validate_args=False),
            },
            best="f1",
            larger_is_better=True,
            prediction="labels",
            outputs=labels,
            judged=_held_labels,
            check=targets.check_labels,
            is_of_table=True,
        )

    @staticmethod
    def regression(values: int = 1) -> Task:
        """Return the task of numbers: outputs and labels [B, …] of one shape; [B, 1] and [B] are one.

        The loss is the mean squared error; metrics are "mae", the mean absolute error, and "rmse", the root of the mean
        squared error, of which "mae" chooses the best.

        Args:
            values: of one output.

        Raises:
            ValueError: values below 1.
        """
        _check_outputs("values", values)
        return Task(
            "mse",
            _Named("mean squared error", _mean_squared_error),
            {"mae": MeanAbsoluteError, "rmse": partial(MeanSquaredError, squared=False)},
            best="mae",
            larger_is_better=False,
            prediction="values",
            outputs=values,
            judged=_numbers,
            check=targets.check_numbers,
        )

    @staticmethod
    def segmentation(num_classes: int, ignore_index: int = _IGNORED) -> Task:
        """Return the task of a class for each pixel: outputs [B, num_classes, …], labels int [B, …].

        The loss is the mean cross-entropy over the pixels that count, 0 where none does. Metrics are "miou", the mean
        over the classes of intersection over union, and "pixel_acc", the share of pixels, in [0, 1].

        Args:
            ignore_index: the label of pixels that do not count.

        Raises:
            ValueError: num_classes below 2.
        """
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        return Task(
            "pixels",
            _Named("cross-entropy", partial(_pixel_cross_entropy, ignore_index=ignore_index)),
            {
                "miou": partial(MulticlassJaccardIndex, num_classes, validate_args=False),
                "pixel_acc": partial(_accuracy, num_classes, 1),
            },
            best="miou",
            larger_is_better=True,
            prediction="pixels",
            outputs=num_classes,
            judged=partial(_counted_pixels, ignore_index=ignore_index),
            check=partial(targets.check_pixels, num_classes=num_classes, ignore_index=ignore_index),
            is_of_table=ignore_index == _IGNORED,
        )

    @staticmethod
    def of(loss: Loss, metric: object = None) -> Task:
        """Return the task of a loss of your own.

        Args:
            loss: function of the model's output and the labels (of the output alone, if the data have none) to a tensor
                of one number, the mean over the batch.
            metric: what chooses best.ckpt: a torchmetrics.Metric or its class, updated with logits and labels, or a
                function of whole outputs and labels to the mean number of a batch, which has an attribute
                `higher_is_better`. None: val/loss.

        Raises:
            TypeError: a loss or metric that is none. ValueError: a metric that does not say which values are better.
        """
        checked = CheckedLoss(loss)
        task = Task(checked.name, checked, {}, best=LOSS, larger_is_better=False, judged=_logits_if_any)
        return task if metric is None else task.with_metric(metric)

    def with_loss(self, loss: Loss) -> Task:
        """Return the task with a loss of your own, as for `of`, and the metrics that it has."""
        checked = CheckedLoss(loss)
        return dataclasses.replace(self, name=checked.name, loss=checked, training_loss=None, is_of_table=False)

    def with_metric(self, metric: object) -> Task:
        """Return the task with another metric that chooses the best checkpoint.

        Args:
            metric: the name of one that the task has, "loss", or one of your own, as for `of`.

        Raises:
            TypeError, ValueError: no metric of this task, and none of your own.
        """
        if isinstance(metric, str):
            if metric != LOSS and metric not in self.metrics:
                raise ValueError(
                    f"metric must be one of {', '.join([*self.metrics, LOSS])} for the loss {self.name}, or a metric "
                    f"of your own, got {metric!r}"
                )
            larger = metric != LOSS and _is_larger_better(metric)
            return dataclasses.replace(self, best=metric, larger_is_better=larger)
        own = metric_of(metric)
        if own.name == LOSS or own.name in self.metrics:
            raise ValueError(f"there is a metric {own.name} already; give yours another name")
        judged = _numbers if self.prediction == "values" else _logits_if_any
        return dataclasses.replace(
            self,
            metrics={**self.metrics, own.name: own.make},
            best=own.name,
            larger_is_better=own.larger_is_better,
            own_judged={**self.own_judged, own.name: _whole if own.is_function else judged},
        )

    def update(self, metrics: Mapping[str, nn.Module], output: Any, target: Any, where: str) -> None:
        """Update metrics of the task by a batch's outputs and labels, without their gradients.

        Raises:
            InputError: a metric raises; the message begins with `where`.
        """
        with torch.no_grad():
            judged = self.judged(output, target)
            for name, metric in metrics.items():
                own = self.own_judged.get(name)
                with telling(f"{where}: the metric {name}"):
                    metric.update(*(judged if own is None else own(output, target)))  # type: ignore[operator]

    @property
    def key(self) -> str:
        """The column of the history that chooses the best checkpoint: "val/acc"."""
        return f"val/{self.best}"

    @property
    def stated_loss(self) -> Loss | None:
        """The loss as `check`, `sensitivity` and `allocate` take it; None where outputs and labels ask for it anyway.

        They ask for the cross-entropy and the binary cross-entropy; and then there is an accuracy, too.
        """
        return None if self.is_of_table else self.loss

    @property
    def checked_loss(self) -> Loss | None:
        """The loss in training, as `check` takes it; None where outputs and labels ask for it anyway."""
        if self.training_loss is None or not getattr(self.training_loss, "keywords", {}).get("label_smoothing"):
            return self.stated_loss
        return self.training_loss

    @property
    def has_logits(self) -> bool:
        """Whether outputs are logits of classes, over dimension 1, which a teacher's can be compared with."""
        return self.prediction in ("classes", "pixels")


class _Named:
    """A loss as tables call it."""

    def __init__(self, name: str, loss: Loss) -> None:
        self.__name__, self._loss = name, loss

    def __call__(self, output: Any, target: Any) -> Tensor:
        return self._loss(output, target)


def _is_larger_better(name: str) -> bool:
    return name not in ("mae", "rmse")


def _check_outputs(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _accuracy(num_classes: int, top_k: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)


def logits(output: object) -> Tensor:
    """Return the logits of what a model returns; TypeError if there are none, or several."""
    return logits_of(output, "return logits alone, or a dict that has them under 'logits'")


def _cross_entropy(output: Any, target: Tensor) -> Tensor:
    return F.cross_entropy(logits(output), target)


def smoothed_cross_entropy(output: Any, target: Tensor, *, label_smoothing: float) -> Tensor:
    return F.cross_entropy(logits(output), target, label_smoothing=label_smoothing)


def _logits_and_labels(output: Any, target: Tensor) -> tuple[Tensor, Tensor]:
    return logits(output), target


def _whole(output: Any, target: Any) -> tuple[Any, Any]:
    return output, target


def _logits_if_any(output: Any, target: Any) -> tuple[Any, Any]:
    """Return the logits where there is no doubt about them, else the whole output."""
    try:
        return logits_of(output), target
    except TypeError:
        return output, target


def _numbers(output: Any, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and labels in one shape, at least in float32."""
    z = targets.column(logits_of(output, _REMEDY))
    z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
    return z, targets.column(target).to(z.dtype)


def _binary_cross_entropy(output: Any, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(*_numbers(output, target))


def _held_labels(output: Any, target: Tensor) -> tuple[Tensor, Tensor]:
    z, y = _numbers(output, target)
    # As whole numbers: torchmetrics would take logits that all lie in [0, 1] for probabilities.
    return (z > 0).long().reshape(len(z), -1), y.long().reshape(len(y), -1)


def _mean_squared_error(output: Any, target: Tensor) -> Tensor:
    return F.mse_loss(*_numbers(output, target))


def _pixel_cross_entropy(output: Any, target: Tensor, *, ignore_index: int) -> Tensor:
    z = logits_of(output, _REMEDY)
    # Not reduction="mean", which is NaN where no pixel counts.
    total = F.cross_entropy(z.float(), target.long(), ignore_index=ignore_index, reduction="sum")
    return total / (target != ignore_index).sum().clamp(min=1)


def _counted_pixels(output: Any, target: Tensor, *, ignore_index: int) -> tuple[Tensor, Tensor]:
    counts = target != ignore_index
    return logits_of(output, _REMEDY).argmax(1)[counts], target.long()[counts]
