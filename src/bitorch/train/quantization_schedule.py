"""Quantizers that come in over a training, for a Lightning Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..quantizations import Quantization_Scheduler, ScheduledQuantizer

#: When the factor changes.
Every = Literal["step", "epoch"]
#: Under which name the factor stands in the logs.
METRIC = "schedule/factor"


class QuantizationSchedule(Callback):
    """Goes from one quantizer to the next over the first epochs of a training, by a `Quantization_Scheduler`.

    The scheduled quantizers come into the model when training begins, before its optimizer is made. How far they are is
    a function of where the training is: of the optimizer's steps, or of the epoch. So a run that is resumed from a
    checkpoint, in the midst of an epoch as well, goes on as if it had not been stopped. At the end of the training the
    last quantizers are in their places, see `Quantization_Scheduler.finish`. Each epoch logs the factor, under
    "schedule/factor".

    A checkpoint from before that end has the scheduled quantizers' parameters, if they learn any.

    Args:
        quantizations: in their order, such as [Identity(), Sign()]; see `Quantization_Scheduler`.
        procedure: "mix_linear" or "step", likewise.
        epochs: until the last quantizer is reached, at least 1; fewer than the run has.
        every: "step" goes further with each optimizer step, "epoch" from epoch to epoch.
        schedule_all: all quantizers of weights and activations; False: instances of ScheduledQuantizer alone.
        exclude_layers: classes; modules of exactly these are passed over.

    Attributes:
        scheduler: the `Quantization_Scheduler`, once training has begun; None before.
        factor: how far it is, 0 … 1.

    Raises:
        ValueError, TypeError: as `Quantization_Scheduler`, epochs below 1, `every` that is neither. When training
            starts: no epoch left for the last quantizer; a loader without a length, with every="step".
    """

    def __init__(
        self,
        quantizations: Sequence[nn.Module],
        procedure: str = "mix_linear",
        *,
        epochs: int,
        every: Every = "step",
        schedule_all: bool = True,
        exclude_layers: Sequence[type[nn.Module]] = (),
    ) -> None:
        if isinstance(epochs, bool) or not isinstance(epochs, int):
            raise TypeError(f"epochs must be an int, got {epochs!r}")
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        if every not in get_args(Every):
            raise ValueError(f'every must be "step" or "epoch", got {every!r}')
        self.quantizations = list(quantizations)
        self.procedure = procedure
        self.epochs = epochs
        self.every = every
        self.schedule_all = schedule_all
        self.exclude_layers = tuple(exclude_layers)
        self.scheduler: Quantization_Scheduler | None = None
        # What is wrong with them is told now, by a model that has one place.
        Quantization_Scheduler(_place(), epochs, self.quantizations, procedure)

    @property
    def factor(self) -> float:
        """How far the scheduled quantizers are, 0 … 1."""
        return 0.0 if self.scheduler is None else self.scheduler.factor

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put scheduled quantizers into the model."""
        if stage != "fit":
            return
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= self.epochs:
            raise ValueError(
                f"the schedule takes {self.epochs} epochs and the run {trainer.max_epochs}, which leaves none for the "
                "last quantizer"
            )
        self.scheduler = Quantization_Scheduler(
            pl_module, self.epochs, self.quantizations, self.procedure, self.schedule_all, self.exclude_layers
        )

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is, for the checkpoint: what a validation before the first batch computes with."""
        return {"factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a checkpoint says."""
        if self.scheduler is not None:
            self.scheduler.factor = state_dict["factor"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Go to where the training is."""
        assert self.scheduler is not None  # since setup
        self.scheduler.factor = min(self._epochs_done(trainer) / self.epochs, 1.0)

    def _epochs_done(self, trainer: pl.Trainer) -> float:
        if self.every == "epoch":
            return trainer.current_epoch
        batches = trainer.num_training_batches
        if not isinstance(batches, int):
            raise ValueError('every="step" needs a training loader with a length; take every="epoch"')
        return trainer.global_step / -(-batches // trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the factor."""
        pl_module.log(METRIC, self.factor, sync_dist=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the last quantizers in their places, where the training has come to them."""
        if self.scheduler is not None and self.scheduler.factor == 1:
            self.scheduler.finish(pl_module)


def _place() -> nn.Module:
    return nn.Sequential(ScheduledQuantizer())
