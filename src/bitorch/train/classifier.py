"""The Lightning module that trains any classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from ..data import to_float
from ..deployment.partial.evaluation_choice import EvaluationChoice
from ..objective import Loss
from .distillation import Distillation
from .schedule import Schedule
from .task import Task, logits
from .trainable import ADAM, COSINE, DISTILLATION, Trainable


class Classifier(Trainable):
    """Trains a classifier: any module from images [B, C, H, W] to logits [B, num_classes].

    The logits may also stand under "logits" in a dict, dataclass or the like, or be its only tensor of floats.
    It is a Trainable with the task Task.classification(num_classes, label_smoothing), which see for batches, logs,
    checkpoints and the other arguments.

    Args:
        num_classes: at least 2.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        loss: of your own, in place of the cross-entropy: function of the model's output and the labels to the mean over
            the batch.
        metric: that chooses the best checkpoint, in place of "acc": the name of another one, or one of your own, as for
            `Task.with_metric`.

    Raises:
        ValueError: num_classes or label_smoothing out of range, label_smoothing with a loss of your own.
        TypeError: a model or teacher that is no module.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        optimizer: Callable[[Iterable[Parameter]], Optimizer] = ADAM,
        schedule: Schedule = COSINE,
        label_smoothing: float = 0.0,
        loss: Loss | None = None,
        metric: object = None,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        teacher: nn.Module | None = None,
        distillation: Distillation = DISTILLATION,
        seed: int = 0,
        info: Mapping[str, Any] | None = None,
        evaluation: EvaluationChoice = "auto",
    ) -> None:
        task = Task.classification(num_classes, label_smoothing)
        if loss is not None:
            if label_smoothing:
                raise ValueError("label_smoothing is that of the cross-entropy; leave it out with a loss of your own")
            task = task.with_loss(loss)
        task = task if metric is None else task.with_metric(metric)
        super().__init__(
            model,
            task,
            optimizer=optimizer,
            schedule=schedule,
            augmentation=augmentation,
            teacher=teacher,
            distillation=distillation,
            seed=seed,
            info=info,
            evaluation=evaluation,
        )
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, num_classes] for images [B, C, H, W], uint8 or float."""
        return logits(self.model(to_float(x) if x.dtype == torch.uint8 else x))
