"""The Lightning module that trains any model for any task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Adam, Optimizer
from torchmetrics import MeanMetric, Metric

from ..batches import Batch, Forward, read_batch
from ..data import to_float
from ..deployment.partial.evaluation_choice import EvaluationChoice, check_evaluation
from ..deployment.partial.evaluation_forms import EvaluationForms
from ..deployment.partial.evaluation_pass import EvaluationPass
from ..input_error import InputError
from ..kept import Kept
from ..models import Model
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
from .task import Task, logits

#: Where a checkpoint keeps what is ours; `on_save_checkpoint` has the keys below it.
CHECKPOINT_KEY = "bitorch"
_FORMAT = 1
#: The keys of metrics' sums in a checkpoint where they are not "train_NAME".
_STATES_OF = {"acc": "train_accuracy"}
ADAM = partial(Adam, lr=1e-3)
COSINE = Schedule()
DISTILLATION = Distillation()


class Trainable(pl.LightningModule):
    """Trains any model for a task: a loss, and metrics of which one chooses the best checkpoint.

    Batches are what `bitorch.check` reads: (x, y), ((u, v), y), dicts for model(**batch) and so on, see
    docs/training.md. uint8 images [B, C, H, W] that are the only input become float in [0, 1] on the device and, in
    training, are augmented; floats are taken as they are.
    Logs train/loss, lr, val/loss and val/NAME of each of the task's metrics, once per epoch, and train/NAME of the
    first one, if it keeps sums and no lists.

    With a teacher, train/loss is the loss of `distillation`; val/loss is always that of the labels.

    Every step is a pure function of the parameters, the batch and (seed, rank, step): see `randomness`. So a resumed
    run equals one that was never stopped. A step whose loss or gradients are not finite is not made: NonFiniteError.
    Labels that are not those of the task are an InputError before the step, which names the batch and the sample.

    In validation low-bit layers compute on packed weights, where they can and it is faster: the same numbers, see
    `evaluation`. A pass packs them, and throws them away.

    Attributes:
        evaluated: what the low-bit layers have computed with in the last validation, and why; None before the first.

    Args:
        model: its state_dict stands in checkpoints under the prefix "model.".
        task: such as Task.regression().
        optimizer: function from the trainable parameters to an optimizer.
        schedule: factor on the optimizer's learning rates.
        augmentation: function from float images to float images, drawing from PyTorch's global generators.
        teacher: a trained module from the same inputs to as many logits, of which the model shall learn. It runs in
            eval mode and without gradients, and is neither trained nor kept in checkpoints.
        distillation: how much of the loss the teacher has, and how.
        seed: of everything random in training.
        info: what checkpoints shall say about the run, in types that JSON has.
        evaluation: what low-bit layers compute with in validation. "auto": packed weights by bitorch_runtime where they
            can and it is faster. "packed": a ValueError where they cannot. "unpacked": what they train with.

    Raises:
        TypeError: a model or teacher that is no module, a task that is none.
        ValueError: a teacher for a task whose outputs are not logits of classes, an unknown evaluation.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        *,
        optimizer: Callable[[Iterable[Parameter]], Optimizer] = ADAM,
        schedule: Schedule = COSINE,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        teacher: nn.Module | None = None,
        distillation: Distillation = DISTILLATION,
        seed: int = 0,
        info: Mapping[str, Any] | None = None,
        evaluation: EvaluationChoice = "auto",
    ) -> None:
        super().__init__()
        for name, module in (("model", model), ("teacher", teacher)):
            if not isinstance(module, nn.Module) and not (name == "teacher" and module is None):
                raise TypeError(f"{name} must be a torch.nn.Module, got {type(module).__name__}")
        if not isinstance(task, Task):
            raise TypeError(f"task must be a bitorch.train.Task, such as Task.regression(), got {task!r}")
        if teacher is not None:
            check_distils(task)
        self.model = model
        self.task = task
        self.seed = seed
        self.info = info
        self.evaluated: EvaluationForms | None = None
        self._evaluation = check_evaluation(evaluation)
        self._pass: Kept[EvaluationPass] = Kept()
        self._make_optimizer = optimizer
        self._schedule = schedule
        self._augmentation = augmentation
        # In a tuple nn.Module does not see it: no part of the state_dict, of the optimizer or of .train().
        self._teacher = () if teacher is None else (teacher,)
        self._distillation = distillation
        takes = Forward.of(model)
        self._takes_one = len(takes.needed) <= 1 and takes.labels is None and not takes.needs_labels
        # A NaN loss in training stops the run with an error of its own, so the mean need not warn of it.
        self.train_loss = MeanMetric(nan_strategy="ignore")
        self.train_metrics = nn.ModuleDict(dict(list(_metrics(task).items())[:1]))
        # A NaN counts as NaN, so that the mean is NaN. ("disable" does so too, but drops the weights.)
        self.val_loss = MeanMetric(nan_strategy=math.nan)
        self.val_metrics = nn.ModuleDict(_metrics(task))
        for name in [name for name, metric in self.train_metrics.items() if _keeps_lists(metric)]:
            del self.train_metrics[name]
        self._loss = torch.zeros(())
        self._batch: tuple[Batch, int] | None = None  # of the last training step, as the model saw it, and its index
        self._first_shapes: list[list[int]] = []
        self._base_lrs: list[float] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns for inputs; a single input of uint8 becomes float in [0, 1]."""
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and args[0].dtype == torch.uint8:
            args = (to_float(args[0]),)
        return self.model(*args, **kwargs)

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

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, its randomness seeded by its place in the run."""
        seed_generators(step_seed(self.seed, self.global_rank, self.global_step, batch_idx), self.device)
        self._set_lr()
        read = self._read(batch, self._where("training", batch_idx), augmented=True)
        output = self._output(read)
        self.task.check(output, read.labels, read.where)
        loss = self._loss_of(output, read)
        self._loss = loss.detach()
        self._batch = (read.mapped(torch.detach), batch_idx)
        self.train_loss.update(self._loss, weight=len(read))
        self.task.update(dict(self.train_metrics.items()), output, read.labels, read.where)
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

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let nets of the zoo do what they do after each step, as QuickNet, which clips its weights."""
        for module in self.model.modules():
            if isinstance(module, Model):
                module.apply(module.on_train_batch_end)

    def on_train_epoch_end(self) -> None:
        """Log what the epoch's steps have summed up; NonFiniteError if a learned range has collapsed meanwhile."""
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        if collapsed := describe_collapsed(self.model, lr):
            raise NonFiniteError(f"epoch {self.current_epoch + 1}: {collapsed}", self.global_step)
        self.log("lr", lr, sync_dist=True)
        self._log_and_reset("train", self.train_loss, self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        """Forget the packed weights of a pass that was broken off."""
        self._pass.made = None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count a batch."""
        read = self._read(batch, self._where("validation", batch_idx), augmented=False)
        if self._pass.made is None:  # only here: a callback may have brought other weights for the validation
            self._pass.made = EvaluationPass(self.model, self._evaluation, batches=self._validation_batches())
        with self._pass.made.running():
            output = self._output(read)
        self.task.check(output, read.labels, read.where)
        self.val_loss.update(self.task.loss(output, read.labels), weight=len(read))
        self.task.update(dict(self.val_metrics.items()), output, read.labels, read.where)

    def on_validation_epoch_end(self) -> None:
        """Log the counts of all processes together."""
        if self._pass.made is not None:
            self.evaluated = self._pass.made.forms
            self._pass.made = None
        self._log_and_reset("val", self.val_loss, self.val_metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add info and the state of every process: explicit generators and the sums of the current epoch."""
        state = {
            "generators": generator_states(self.model),
            "train_loss": _metric_state(self.train_loss),
            **{_STATES_OF.get(name, f"train_{name}"): _metric_state(m) for name, m in self._train_metrics()},
        }
        ranks: list[Any] = [state]
        if self.trainer.world_size > 1:
            ranks = [None] * self.trainer.world_size
            dist.all_gather_object(ranks, state)
        checkpoint[CHECKPOINT_KEY] = {
            "format": _FORMAT,
            "num_classes": self.task.outputs,
            "task": {"name": self.task.name, "best": self.task.best, "larger_is_better": self.task.larger_is_better},
            "info": {} if self.info is None else dict(self.info),
            "bits": {name: list(bits) for name, bits in bits_in_force(self.model).items()},
            "ranks": ranks,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this process's state, and the bits that were in force, before the weights and ranges are loaded."""
        if CHECKPOINT_KEY not in checkpoint:
            raise ValueError(f"the checkpoint is not one of a Trainable: it lacks {CHECKPOINT_KEY!r}")
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
        for name, metric in self._train_metrics():
            _restore_metric(metric, state[_STATES_OF.get(name, f"train_{name}")])

    def _validation_batches(self) -> float:
        """Return how many batches a pass has; 1 of steps that no Trainer calls."""
        trainer = self._trainer
        if trainer is None:
            return 1
        return sum(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)

    def _where(self, kind: str, batch_idx: int) -> str:
        return f"{kind} batch {batch_idx} of epoch {self.current_epoch + 1}"

    def _read(self, batch: Any, where: str, *, augmented: bool) -> Batch:
        """Return how the model is called with a batch: of a pair of tensors at once, else as `read_batch` does."""
        is_pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(x, Tensor) for x in batch)
        if is_pair and self._takes_one:
            x, y = batch
            return Batch((self._as_input(x, augmented=augmented),), {}, y, where=where)
        if augmented and self._augmentation is not None and isinstance(batch, Tensor):
            batch = self._as_input(batch, augmented=True)
        try:
            return read_batch(batch, self.model, where, pixels=True)
        except (TypeError, ValueError) as error:
            raise InputError(str(error)) from error

    def _as_input(self, x: Tensor, *, augmented: bool) -> Tensor:
        if x.dtype != torch.uint8:
            return x
        x = to_float(x)
        return self._augmentation(x) if augmented and self._augmentation is not None else x

    def _output(self, read: Batch) -> Any:
        """Return what the model returns; InputError if it fails on inputs of other shapes than the first ones."""
        shapes = [list(x.shape) for x in read.tensors()]
        if not self._first_shapes:
            self._first_shapes = shapes
        try:
            return read.call(self.model)
        except Exception as error:  # of any kind, as models are the user's; it goes on where shapes are not the reason
            if [shape[1:] for shape in shapes] == [shape[1:] for shape in self._first_shapes]:
                raise
            now, first = (", ".join(map(str, found)) for found in (shapes, self._first_shapes))
            raise InputError(
                f"{read.where} has inputs {now}, and the first one had {first}; the model's forward fails on it: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _train_metrics(self) -> list[tuple[str, Metric]]:
        return [(name, metric) for name, metric in self.train_metrics.items() if isinstance(metric, Metric)]

    def _loss_of(self, output: Any, read: Batch) -> Tensor:
        of_labels = self.task.loss if self.task.training_loss is None else self.task.training_loss
        loss = of_labels(output, read.labels)
        for teacher in self._teacher:
            with torch.no_grad():
                teacher_logits = logits(read.call(teacher))
            loss = self._distillation.loss(loss, logits(output), teacher_logits)
        return loss

    def _why_not_finite(self, lr: float) -> str:
        """Return the reason of a NonFiniteError, from the step's last batch with its random numbers."""
        assert self._batch is not None  # as a step was made
        read, batch_idx = self._batch
        what = describe_non_finite(self._loss, self.model.named_parameters())
        seed_generators(step_seed(self.seed, self.global_rank, self.global_step, batch_idx), self.device)
        with self.trainer.precision_plugin.forward_context():
            where = locate_non_finite(self.model, read, lambda output: self._loss_of(output, read))
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

    def _log_and_reset(self, part: str, loss: MeanMetric, metrics: nn.ModuleDict) -> None:
        """Log "part/NAME" of the loss and of metrics, and start them anew."""
        for name, metric in [("loss", loss), *metrics.items()]:
            assert isinstance(metric, Metric)  # as all of them are
            # compute() is the result of all processes already; sync_dist only tells Lightning.
            self.log(f"{part}/{name}", metric.compute(), sync_dist=True)
            metric.reset()


def check_distils(task: Task) -> None:
    """Raise a ValueError unless a teacher's outputs can be learned for a task."""
    if not task.has_logits:
        raise ValueError(
            f"a teacher's outputs are learned as logits of classes, and those for the loss {task.name} are none; leave "
            "distil out, or put the teacher into a loss of your own"
        )


def sums_of(task: Task) -> dict[str, dict[str, int]]:
    """Return what a checkpoint keeps of a process's metrics in training: how many numbers each state has, by names."""
    kept = Trainable(nn.Identity(), task)
    metrics = {"train_loss": kept.train_loss} | {
        _STATES_OF.get(name, f"train_{name}"): metric for name, metric in kept._train_metrics()
    }
    return {key: {name: tensor.numel() for name, tensor in _metric_state(m).items()} for key, m in metrics.items()}


def _metrics(task: Task) -> dict[str, nn.Module]:
    return {name: make() for name, make in task.metrics.items()}


def _keeps_lists(metric: nn.Module) -> bool:
    return isinstance(metric, Metric) and any(isinstance(value, list) for value in metric.metric_state.values())


def _metric_state(metric: Metric) -> dict[str, Tensor]:
    state: Mapping[str, Any] = metric.metric_state  # of tensors: those of training keep no lists
    return {name: value.cpu().clone() for name, value in state.items()}


def _restore_metric(metric: Metric, state: Mapping[str, Tensor]) -> None:
    for name, value in state.items():
        setattr(metric, name, value.to(metric.device))
