"""Loss and metrics of a model for a task, on a loader of test data."""

from __future__ import annotations

from typing import NamedTuple

import lightning.pytorch as pl
from torch import nn

from ..data.epoch_loader import EpochLoader
from ..deployment.partial.evaluation_choice import EvaluationChoice
from ..deployment.partial.evaluation_forms import EvaluationForms
from .progress import quiet_lightning
from .task import Task
from .trainable import Trainable


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        means: over all samples by name: "loss", and the task's metrics.
        evaluated: what low-bit layers have computed with.
    """

    means: dict[str, float]
    evaluated: EvaluationForms


def measured(
    model: nn.Module,
    task: Task,
    loader: EpochLoader,
    accelerator: str = "cpu",
    evaluation: EvaluationChoice = "auto",
) -> Measured:
    """Return loss and metrics.

    Args:
        evaluation: as of `Trainable`.

    Raises:
        InputError: labels that are not those of the task, an own loss or metric that raises.
        ValueError: evaluation="packed", and a layer cannot be packed.
    """
    trainable = Trainable(model, task, evaluation=evaluation)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        (found,) = trainer.validate(trainable, loader, verbose=False)
    assert trainable.evaluated is not None  # there are batches
    return Measured({name.removeprefix("val/"): value for name, value in found.items()}, trainable.evaluated)
