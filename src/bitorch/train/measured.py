"""Loss and metrics of a model for a task, on a loader of test data."""

from __future__ import annotations

import lightning.pytorch as pl
from torch import nn

from ..data.epoch_loader import EpochLoader
from .progress import quiet_lightning
from .task import Task
from .trainable import Trainable


def measured(model: nn.Module, task: Task, loader: EpochLoader, accelerator: str = "cpu") -> dict[str, float]:
    """Return the means over all samples by name: "loss", and the task's metrics.

    Raises:
        InputError: labels that are not those of the task, an own loss or metric that raises.
    """
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        (found,) = trainer.validate(Trainable(model, task), loader, verbose=False)
    return {name.removeprefix("val/"): value for name, value in found.items()}
