"""The Lightning module that trains any classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Adam, Optimizer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from ..data import to_float
from ..outputs import logits_of
from .bits_in_force import bits_in_force, bring_into_force
from .distillation import Distillation
from .guard import (
    NonFiniteError,
    describe_collapsed,
    describe_non_finite,
    is_step_finite,
    locate_non_finite,
    remedy,
)
from .randomness import generator_states, restore_generators, seed_generators, step_seed
from .schedule import Schedule

#: Where a checkpoint keeps what is ours; `on_save_checkpoint` has the keys below it.
CHECKPOINT_KEY = "bitorch"
_FORMAT = 1
_ADAM = partial(Adam, lr=1e-3)
_COSINE = Schedule()
_DISTILLATION = Distillation()


class Classifier(pl.LightningModule):
    """Trains a classifier: any module from images [B, C, H, W] to logits [B, num_classes].

    The logits may also stand under "logits" in a dict, dataclass or the like, or be its only tensor of floats.
    Batches are pairs of images and int64 labels [B]. uint8 images become float in [0, 1] on the device and, in
    training, are augmented; float images are taken as they are.
    Logs train/loss, train/acc, lr, val/loss, val/acc and, with more than 5 classes, val/top5, once per epoch.

    With a teacher, train/loss is the loss of `distillation`; val/loss is always the cross-entropy with the labels.

    Every step is a pure function of the parameters, the batch and (seed, rank, step): see `randomness`. So a resumed
    run equals one that was never stopped. A step whose loss or gradients are not finite is not made: NonFiniteError.

    Args:
        model: its state_dict stands in checkpoints under the prefix "model.".
        num_classes: at least 2.
        optimizer: function from the trainable parameters to an optimizer.
        schedule: factor on the optimizer's learning rates.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        augmentation: function from float images to float images, drawing from PyTorch's global generators.
        teacher: a trained module from the same images to as many logits, of which the model shall learn. It runs in
            eval mode and without gradients, and is neither trained nor kept in checkpoints.
        distillation: how much of the loss the teacher has, and how.
        seed: of everything random in training.
        info: what checkpoints shall say about the run, in types that JSON has.

    Raises:
        ValueError: num_classes or label_smoothing out of range.
        TypeError: a model or teacher that is no module.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        optimizer: Callable[[Iterable[Parameter]], Optimizer] = _ADAM,
        schedule: Schedule = _COSINE,
        label_smoothing: float = 0.0,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        teacher: nn.Module | None = None,
        distillation: Distillation = _DISTILLATION,
        seed: int = 0,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, module in (("model", model), ("teacher", teacher)):
            if not isinstance(module, nn.Module) and not (name == "teacher" and module is None):
                raise TypeError(f"{name} must be a torch.nn.Module, got {type(module).__name__}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        self.model = model
        self.num_classes = num_classes
        self.seed = seed
        self.info = info
        self._make_optimizer = optimizer
        self._schedule = schedule
        self._label_smoothing = label_smoothing
        self._augmentation = augmentation
        # In a tuple nn.Module does not see it: no part of the state_dict, of the optimizer or of .train().
        self._teacher = () if teacher is None else (teacher,)
        self._distillation = distillation
        # A NaN loss in training stops the run with an error of its own, so the mean need not warn of it.
        self.train_loss = MeanMetric(nan_strategy="ignore")
        self.train_accuracy = _accuracy(num_classes, top_k=1)
        # A NaN counts as NaN, so that the mean is NaN. ("disable" does so too, but drops the weights.)
        self.val_loss = MeanMetric(nan_strategy=math.nan)
        self.val_accuracy = _accuracy(num_classes, top_k=1)
        self.val_top5 = _accuracy(num_classes, top_k=5) if num_classes > 5 else None
        self._loss = torch.zeros(())
        self._batch = (torch.empty(0), torch.empty(0), 0)  # of the last training step: the model's input, labels, index
        self._base_lrs: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, num_classes] for images [B, C, H, W], uint8 or float."""
        return _logits(self.model(to_float(x) if x.dtype == torch.uint8 else x))

    def on_fit_start(self) -> None:
        """Bring the teacher to the device, in eval mode."""
        for teacher in self._teacher:
            teacher.to(self.device).eval()

    def configure_optimizers(self) -> Optimizer:
        """Build the optimizer over the parameters that require a gradient."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("the model has no parameter that requires a gradient, so there is nothing to train")
        optimizer = self._make_optimizer(parameters)
        self._base_lrs = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, its randomness seeded by its place in the run."""
        seed_generators(step_seed(self.seed, self.global_rank, self.global_step, batch_idx), self.device)
        self._set_lr()
        x, y = batch
        if x.dtype == torch.uint8:
            x = to_float(x)
            if self._augmentation is not None:
                x = self._augmentation(x)
        logits = _logits(self.model(x))
        loss = self._loss_of(x, logits, y)
        self._loss = loss.detach()
        self._batch = (x.detach(), y, batch_idx)
        self.train_loss.update(self._loss, weight=len(y))
        self.train_accuracy.update(logits.detach(), y)
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # set outside __init__
            for logger in self.loggers:
                logger.log_metrics({"train/step_loss": self._loss.item()}, step=self.global_step)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Raise NonFiniteError, on every process alike, instead of making a step that is not finite."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        finite = is_step_finite(self._loss, parameters)
        if self.trainer.world_size > 1:
            finite = self.trainer.strategy.reduce(finite.float(), reduce_op="sum") == self.trainer.world_size
        if not finite.item():
            raise NonFiniteError(self._why_not_finite(optimizer.param_groups[0]["lr"]), self.global_step)

    def on_train_epoch_end(self) -> None:
        """Log what the epoch's steps have summed up; NonFiniteError if a learned range has collapsed meanwhile."""
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        if collapsed := describe_collapsed(self.model, lr):
            raise NonFiniteError(f"epoch {self.current_epoch + 1}: {collapsed}", self.global_step)
        self.log("lr", lr, sync_dist=True)
        self._log_and_reset({"train/loss": self.train_loss, "train/acc": self.train_accuracy})

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count a batch."""
        x, y = batch
        logits = self(x)
        self.val_loss.update(F.cross_entropy(logits, y), weight=len(y))
        self.val_accuracy.update(logits, y)
        if self.val_top5 is not None:
            self.val_top5.update(logits, y)

    def on_validation_epoch_end(self) -> None:
        """Log the counts of all processes together."""
        metrics: dict[str, MeanMetric | MulticlassAccuracy] = {"val/loss": self.val_loss, "val/acc": self.val_accuracy}
        if self.val_top5 is not None:
            metrics["val/top5"] = self.val_top5
        self._log_and_reset(metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add info and the state of every process: explicit generators and the sums of the current epoch."""
        state = {
            "generators": generator_states(self.model),
            "train_loss": _metric_state(self.train_loss),
            "train_accuracy": _metric_state(self.train_accuracy),
        }
        ranks: list[Any] = [state]
        if self.trainer.world_size > 1:
            ranks = [None] * self.trainer.world_size
            dist.all_gather_object(ranks, state)
        checkpoint[CHECKPOINT_KEY] = {
            "format": _FORMAT,
            "num_classes": self.num_classes,
            "info": {} if self.info is None else dict(self.info),
            "bits": {name: list(bits) for name, bits in bits_in_force(self.model).items()},
            "ranks": ranks,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this process's state, and the bits that were in force, before the weights and ranges are loaded."""
        if CHECKPOINT_KEY not in checkpoint:
            raise ValueError(f"the checkpoint is not one of a Classifier: it lacks {CHECKPOINT_KEY!r}")
        bring_into_force(self.model, checkpoint[CHECKPOINT_KEY].get("bits", {}))
        ranks = checkpoint[CHECKPOINT_KEY]["ranks"]
        if len(ranks) != self.trainer.world_size:
            raise ValueError(
                f"the checkpoint is of {len(ranks)} processes, this run has {self.trainer.world_size}; use as many, "
                "because the order of the images, the schedule and the random numbers depend on it"
            )
        state = ranks[self.global_rank]
        restore_generators(self.model, state["generators"])
        _restore_metric(self.train_loss, state["train_loss"])
        _restore_metric(self.train_accuracy, state["train_accuracy"])

    def _loss_of(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, y, label_smoothing=self._label_smoothing)
        for teacher in self._teacher:
            with torch.no_grad():
                teacher_logits = _logits(teacher(x))
            loss = self._distillation.loss(loss, logits, teacher_logits)
        return loss

    def _why_not_finite(self, lr: float) -> str:
        """Return the reason of a NonFiniteError, from the step's last batch with its random numbers."""
        x, y, batch_idx = self._batch
        what = describe_non_finite(self._loss, self.model.named_parameters())
        seed_generators(step_seed(self.seed, self.global_rank, self.global_step, batch_idx), self.device)
        with self.trainer.precision_plugin.forward_context():
            where = locate_non_finite(self.model, x, lambda output: self._loss_of(x, _logits(output), y))
        step = f"step {self.global_step} (epoch {self.current_epoch + 1})"
        return " ".join(part for part in (f"{step}: {what}", where, remedy(lr)) if part)

    def _set_lr(self) -> None:
        batches = self.trainer.num_training_batches
        epochs = self.trainer.max_epochs
        if not isinstance(batches, int) or epochs is None or epochs < 1:
            raise ValueError("the schedule needs a training loader with a length and a Trainer with max_epochs")
        steps_per_epoch = -(-batches // self.trainer.accumulate_grad_batches)
        factor = self._schedule.factor(self.global_step, steps_per_epoch, epochs)
        for group, lr in zip(self.trainer.optimizers[0].param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * factor

    def _log_and_reset(self, metrics: Mapping[str, MeanMetric | MulticlassAccuracy]) -> None:
        for name, metric in metrics.items():
            # compute() is the result of all processes already; sync_dist only tells Lightning.
            self.log(name, metric.compute(), sync_dist=True)
            metric.reset()


def _logits(output: object) -> Tensor:
    return logits_of(output, "return logits alone, or a dict that has them under 'logits'")


def _accuracy(num_classes: int, top_k: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)


def _metric_state(metric: MeanMetric | MulticlassAccuracy) -> dict[str, Tensor]:
    state: Mapping[str, Any] = metric.metric_state  # of tensors: these metrics keep no lists
    return {name: value.cpu().clone() for name, value in state.items()}


def _restore_metric(metric: MeanMetric | MulticlassAccuracy, state: Mapping[str, Tensor]) -> None:
    for name, value in state.items():
        setattr(metric, name, value.to(metric.device))
