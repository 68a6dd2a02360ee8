"""One training run, from settings to a result."""

from __future__ import annotations

import dataclasses
import re
import signal
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from ..conversion.fuse_training import fuse_training_, unfuse_training_
from ..conversion.rules_file import entries_of
from ..conversion.table import Conversion
from ..data import Dataset, dataset_of
from ..deployment.partial.evaluation_forms import EvaluationForms
from ..deployment.partial.evaluation_obstacles import evaluation_forms
from ..known_names import GIVEN_PREFIX
from ..models.own import GivenNet
from ..own_code import refuse_while_imported
from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS
from .assemble import Parts, assemble, test_loader, train_loader, warm_start
from .checkpoint_io import AtomicCheckpointIO
from .files import check_writable, link_atomically, write_atomically
from .guard import NonFiniteError
from .hardware import device_type
from .lost_folder import saying_why
from .meeting import check_launched, saying_who_is_missing
from .net_source import NetSource, given_name
from .progress import epoch_line, is_first_process, progress_bar, quiet_lightning
from .randomness import exact_operations
from .recorder import BEST_NAME, Row, RunRecorder, RunStopped, best_of
from .resumable import check_resumable
from .run_data import picture_shape
from .schedule import Schedule
from .settings import Settings
from .settings_file import write_settings
from .sharded_strategy import Sharded
from .sharding import check_shardable, slices_and_others
from .stopping import Interrupted, StopRequest
from .task import Task
from .trainable import Trainable

_LOG_EVERY_STEPS = 50
_FUSED_DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Result:
    """What a finished run has reached.

    Attributes:
        metric: what chooses the best epoch: "acc", the top-1 accuracy in [0, 1], or another one of the task.
        best: its best value on the test data after an epoch; those of a warm start, which had other bits, do not count.
        last: that of the last epoch.
        last_top5: share of test images with the label among the five best logits; None with up to 5 classes.
        epochs: that the history has.
        seconds_per_step: median over the epochs, with data loading, without validation.
        folder: of the run.
        best_checkpoint, last_checkpoint: their files.
        history: one row per epoch: epoch, step, lr, train/loss, train/acc, val/loss, val/acc, val/top5,
            seconds_per_step; with a warm start the fewest bits in force, too.
        conversion: what `quantize_` did to the model.
    """

    metric: str
    best: float
    last: float
    last_top5: float | None
    epochs: int
    seconds_per_step: float
    folder: Path
    best_checkpoint: Path
    last_checkpoint: Path
    history: tuple[Row, ...]
    conversion: Conversion

    @property
    def best_accuracy(self) -> float:
        """Highest top-1 accuracy on the test images, in [0, 1]; AttributeError of a run without classes."""
        return self._accuracies(best=True)

    @property
    def last_accuracy(self) -> float:
        """Top-1 accuracy on the test images after the last epoch, in [0, 1]; AttributeError as `best_accuracy`."""
        return self._accuracies(best=False)

    def _accuracies(self, *, best: bool) -> float:
        if "val/acc" not in self.history[-1]:
            raise AttributeError(f"a run without classes has no accuracy; best and last are its {self.metric}")
        return best_of(self.history, "val/acc", larger_is_better=True) if best else self.history[-1]["val/acc"]


@dataclass(frozen=True)
class Run(Parts):
    """A checked run that is ready to train; `prepare` makes it."""

    settings: Settings
    folder: Path

    def train(self, *, on_epoch: Callable[[Row], None] | None = None, show: bool = True) -> Result:
        """Train to the end, or resume where `settings.resume` was, and return the result.

        Args:
            on_epoch: called with the new row of the history after each epoch, on the first process.
            show: print what the model became, a line per epoch and, on a terminal, a progress bar.

        Raises:
            NonFiniteError: a loss or gradient was NaN or infinite.
            Interrupted: Ctrl-C or SIGTERM; the checkpoint it names resumes the run. A second Ctrl-C stops at once, with
                a KeyboardInterrupt and the checkpoint of the epoch before.
            OSError: a checkpoint or log could not be written, or the run's folder has gone.
            ConnectionError: the processes of the run have not met.
        """
        known = _evaluation_forms(self.model, self.settings)
        if show and is_first_process():
            tables = [f"{self.settings.name} in {self.folder}", *map(str, self._tables(known))]
            print("\n\n".join(tables) + "\n", flush=True)
        trainable, request = self._trainable(), StopRequest()
        recorder = RunRecorder(
            self.folder,
            self._reporter(trainable, known, on_epoch, show=show),
            is_stop_requested=lambda: request.signal_number is not None,
            best=self.task.key,
            larger_is_better=self.task.larger_is_better,
        )
        bars = progress_bar() if show else []
        with (
            torch.random.fork_rng(devices=[]),
            quiet_lightning(),
            exact_operations(self.settings.deterministic),
            request.listening(),
            saying_why(self.folder),
            saying_who_is_missing(self.settings.processes, self.settings.timeout),
            self._fused(show and is_first_process()),
        ):
            starts = [] if (start := warm_start(self.settings)) is None else [start]
            trainer = self._trainer([recorder, *starts, *bars], has_progress_bar=bool(bars))
            try:
                trainer.fit(
                    trainable,
                    train_loader(self.dataset, self.settings),
                    test_loader(self.dataset, self.settings),
                    ckpt_path=self.settings.resume,
                )
            except RunStopped:
                # None: the signal reached another process.
                number = signal.SIGINT if request.signal_number is None else request.signal_number
                raise Interrupted(recorder.last_path, number) from None
            except SystemExit:
                # What Lightning makes of the KeyboardInterrupt that a second Ctrl-C is.
                raise KeyboardInterrupt from None
            except NonFiniteError as error:
                checkpoint = recorder.last_path if recorder.last_path.is_file() else None
                raise NonFiniteError(error.reason, error.step, checkpoint) from None
        return _result(recorder, self.conversion, self.task)

    def _reporter(
        self, trainable: Trainable, known: EvaluationForms, on_epoch: Callable[[Row], None] | None, *, show: bool
    ) -> Callable[[Row], None]:
        """Return what is called with each new row: it prints, if asked to, and calls `on_epoch`.

        Args:
            known: what layers are evaluated on, as it was printed; what a validation has seen to be otherwise is, too.
        """
        told = known

        def report(row: Row) -> None:
            nonlocal told
            if show:
                evaluated = trainable.evaluated
                if evaluated is not None and evaluated != told:
                    print(evaluated, flush=True)
                    told = evaluated
                print(epoch_line(row, self.settings.epochs, self.task.best), flush=True)
            if on_epoch is not None:
                on_epoch(row)

        return report

    @contextmanager
    def _fused(self, show: bool) -> Iterator[None]:
        """Train with BatchNorms that low-bit convolutions compute, if the settings ask for it."""
        if not self.settings.fuse:
            yield
            return
        fusions = fuse_training_(self.model)
        if show:
            print(f"{fusions}\n", flush=True)
        try:
            yield
        finally:
            unfuse_training_(self.model)

    def _tables(self, evaluated: EvaluationForms) -> list[object]:
        notes = ["\n".join(self.dataset.notes)] if self.dataset.notes else []
        layers = f"{self.conversion}\n{evaluated}" if evaluated.layers else self.conversion
        tables = [layers] if self.calibration is None else [layers, self.calibration]
        return [*notes, *tables]

    def _trainable(self) -> Trainable:
        settings = self.settings
        return Trainable(
            self.model,
            self.task,
            optimizer=partial(_optimizer, settings=settings),
            schedule=Schedule(
                settings.schedule,
                settings.schedule_every,
                settings.milestones,
                settings.gamma,
                settings.warmup_epochs,
            ),
            augmentation=settings.augmentation,
            teacher=None if self.teacher is None else self.teacher.model,
            distillation=settings.distillation,
            seed=settings.seed,
            info=self._info(),
            evaluation=settings.evaluation,
        )

    def _info(self) -> dict[str, Any]:
        """Return what checkpoints say about the run."""
        info: dict[str, Any] = {"settings": self.settings.to_dict()}
        shape = picture_shape(self.dataset)
        if shape is not None:
            info["input_shape"] = list(shape)
        if self.dataset.class_names is not None:
            info["class_names"] = list(self.dataset.class_names)
        if self.dataset.fingerprint is not None:
            info["data_fingerprint"] = self.dataset.fingerprint
        if self.source.sha256 is not None:
            info["model_sha256"] = self.source.sha256
        if self.teacher is not None:
            info["teacher"] = self.teacher.fingerprint
        if self.rules is not None:
            info["rules"] = entries_of(self.rules)
        return info

    def _trainer(self, callbacks: list[Callback], *, has_progress_bar: bool) -> pl.Trainer:
        settings = self.settings
        steps_per_epoch = len(self.dataset.train) // (settings.batch_size * settings.processes)
        return pl.Trainer(
            max_epochs=settings.epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=self._strategy(),
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
            default_root_dir=self.folder,
            logger=TensorBoardLogger(self.folder, name="", version="tensorboard", default_hp_metric=False),
            log_every_n_steps=min(_LOG_EVERY_STEPS, steps_per_epoch),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            use_distributed_sampler=False,  # BatchLoader shards itself
            num_sanity_val_steps=0,
            enable_progress_bar=has_progress_bar,
            enable_model_summary=False,
        )

    def _strategy(self) -> str | Strategy:
        if self.settings.processes == 1:
            return "auto"
        timeout = timedelta(seconds=self.settings.timeout)
        if self.settings.strategy == "fsdp":
            return Sharded(timeout)
        # What quantizers that are switched off have learned gets no gradient; a warm start switches some off.
        has_unused = self.settings.warm_start is not None or any(map(_has_idle_parameters, self.model.modules()))
        return DDPStrategy(timeout=timeout, find_unused_parameters=has_unused)


def _evaluation_forms(model: nn.Module, settings: Settings) -> EvaluationForms:
    """Return what the low-bit layers are evaluated on; ValueError where the settings ask for what cannot be."""
    return evaluation_forms(model, settings.evaluation, device_type(settings.accelerator))


def _has_idle_parameters(module: nn.Module) -> bool:
    if not isinstance(module, Quantization) or module.bit_width != FLOAT_BITS:
        return False
    return next(module.parameters(), None) is not None


def fit(
    settings: Settings,
    *,
    model: GivenNet | None = None,
    data: Any = None,
    on_epoch: Callable[[Row], None] | None = None,
    show: bool = True,
) -> Result:
    """Build the model, quantize it and train it: `prepare(…).train(…)`, which see for arguments and errors."""
    return prepare(settings, model=model, data=data).train(on_epoch=on_epoch, show=show)


def prepare(settings: Settings, *, model: GivenNet | None = None, data: Any = None) -> Run:
    """Check everything that can be checked before training, and build the model.

    Args:
        settings: of the run.
        model: in place of settings.model: a module, which is copied, or a function or class that returns one, called
            with num_classes, channels and image_size, those that it takes. Layers that are low-bit already stay so.
        data: in place of settings.data: a `bitorch.data.Dataset`, or training and test data as a pair or in a dict:
            `Images`, a torch Dataset (map-style or iterable) or a DataLoader each; see `bitorch.data.dataset_of`.

    Raises:
        ValueError, TypeError: the model does not fit the data, a checkpoint the settings, or the settings the machine.
        FileNotFoundError, OSError: missing data or checkpoint; a folder that cannot be written or is too full.
    """
    refuse_while_imported("a training run")
    check_launched(settings.devices, settings.num_nodes)
    dataset = None if data is None else dataset_of(data, "passed in Python", settings.data_options)
    settings = _with_names(settings, model, dataset)
    parts = assemble(settings, model=model, data=dataset)
    if (given := parts.dataset.normalization) is not None:
        settings = dataclasses.replace(settings, mean=given.mean, std=given.std)  # which the data may have said
    if parts.own_bits is not None:
        settings = dataclasses.replace(settings, bits=parts.own_bits)
    if settings.strategy == "fsdp":
        check_shardable(parts.model)
    if settings.resume is not None:
        trained = [p for p in parts.model.parameters() if p.requires_grad]
        steps = len(parts.dataset.train) // (settings.batch_size * settings.processes)
        check_resumable(settings.resume, parts.model, _optimizer(trained, settings), settings, steps, parts.task)
    if settings.evaluation == "packed":
        _evaluation_forms(parts.model, settings)
    folder = _run_folder(settings)
    if is_first_process():
        # Weights and two moments, in three files: last, best and the one that is being written.
        check_writable(folder, bytes_needed=9 * sum(p.nbytes for p in parts.model.parameters()))
        # Without the places: it is the config file of further runs, which are kept and started elsewhere.
        write_settings(settings.without_places(), folder / "settings.yaml")
        _keep_source(parts.source, folder)
        _bring_best(settings, folder)
    return Run(**vars(parts), settings=settings, folder=folder)


def _with_names(settings: Settings, model: GivenNet | None, data: Dataset | None) -> Settings:
    """Return the settings with the names of what is passed in place of what they name."""
    names: dict[str, Any] = {}
    if model is not None:
        names["model"] = given_name(model)
    if data is not None:
        names["data"] = GIVEN_PREFIX + (re.sub(r"\W", "", data.name) or "data")
    for field, name in names.items():
        now = getattr(settings, field)
        if now not in (name, getattr(Settings, field)):
            raise ValueError(f"{field} is passed, and settings have {field}={now!r}; leave one of them out")
    return dataclasses.replace(settings, **names)


def _keep_source(source: NetSource, folder: Path) -> None:
    """Keep a copy of the user's file in the run's folder, for people: it is not run unless they name it."""
    if source.path is not None and source.path.parent.resolve() != folder.resolve():
        content = source.path.read_bytes()
        write_atomically(folder / source.path.name, lambda file: file.write(content))


def _optimizer(parameters: Iterable[Parameter], settings: Settings) -> Optimizer:
    parameters = list(parameters)
    # One kernel for all parameters: with small nets the optimizer is a large part of a step.
    fused = all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in parameters)
    if settings.optimizer == "sgd" and any(isinstance(p, DTensor) for p in parameters):
        fused = False  # PyTorch has no such kernel for slices
    groups = [{"params": alike} for alike in slices_and_others(parameters)]
    if settings.optimizer == "adam":
        return Adam(groups, settings.lr, eps=settings.eps, weight_decay=settings.weight_decay, fused=fused)
    return SGD(
        groups,
        settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def _bring_best(settings: Settings, folder: Path) -> None:
    """Where a run is resumed in another folder, take its best checkpoint along: no later one may be better."""
    if settings.resume is None or settings.resume.resolve().parent == folder.resolve():
        return
    best = settings.resume.parent / BEST_NAME
    if best.is_file():
        link_atomically(best, folder / BEST_NAME)


def _run_folder(settings: Settings) -> Path:
    """Return where the run is kept. A folder that holds another run is never taken."""
    if settings.out is None:
        if settings.resume is not None:
            return settings.resume.parent
        return _fresh(Path("runs") / settings.name)
    is_own = settings.resume is not None and settings.resume.resolve().parent == settings.out.resolve()
    if is_first_process() and not is_own and (settings.out / "last.ckpt").exists():
        raise ValueError(
            f"out: {settings.out} holds a run already; choose another folder, delete it, or continue that run with "
            f"resume: {settings.out / 'last.ckpt'}"
        )
    return settings.out


def _fresh(folder: Path) -> Path:
    """Return the folder, or, if it exists, the first of folder-2, folder-3, … that does not."""
    candidate, number = folder, 2
    # Processes of rank 1 and up come second and write nothing, so to them the name does not matter.
    while is_first_process() and candidate.exists():
        candidate, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return candidate


def _result(recorder: RunRecorder, conversion: Conversion, task: Task) -> Result:
    history = tuple(recorder.history)
    return Result(
        metric=task.best,
        best=best_of(history, task.key, task.larger_is_better),
        last=history[-1][task.key],
        last_top5=history[-1].get("val/top5"),
        epochs=len(history),
        seconds_per_step=statistics.median(row["seconds_per_step"] for row in history),
        folder=recorder.folder,
        best_checkpoint=recorder.best_path,
        last_checkpoint=recorder.last_path,
        history=history,
        conversion=conversion,
    )
