"""The task of a run: what its settings say, and else what outputs and labels ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..batches import Batch
from ..calibration.recording import eval_mode
from ..containers import tensors_in
from ..data import Dataset
from ..input_error import InputError
from ..objective import BCE, MSE, objective
from ..outputs import logits_of, own_loss
from ..own_code import find_own, is_own, run_own
from ..recorded_code import find_recorded, remember
from . import targets
from .run_data import first_call, first_inputs, is_structured
from .settings import Settings
from .task import Task

#: By the losses of `objective`, those of the command line.
_NAMES = {BCE: "bce", MSE: "mse"}


def run_task(settings: Settings, dataset: Dataset, model: nn.Module, *, said_by: Path | None = None) -> Task:
    """Return the task of a run.

    Args:
        settings: of the run: its loss, metric, label_smoothing and ignore_index.
        dataset: of the run.
        model: shows what it returns for own data, on the first training samples.
        said_by: as of `run_data`.

    Raises:
        ValueError: a loss that does not fit what the model returns and the labels, with those that do; a metric that
            there is not; what the user's code raises. TypeError: a loss or metric that is none.
    """
    own = _own(settings.loss, "loss", said_by)
    task: Task | None
    if is_structured(dataset):
        task = _of_own_data(settings, dataset, model, has_loss=own is not None)
    else:
        task = _of_pictures(settings, dataset)
    if own is not None:
        task = Task.of(own) if task is None else task.with_loss(own)
    assert task is not None  # without a loss of the user's own
    if settings.label_smoothing and (own is not None or task.prediction != "classes"):
        raise ValueError(f"label_smoothing is that of the loss cross-entropy, and the loss is {task.name}")
    if settings.metric == "auto":
        return task
    metric = _own(settings.metric, "metric", said_by)
    return task.with_metric(settings.metric if metric is None else metric)


def check_augmentation(settings: Settings, dataset: Dataset, task: Task) -> None:
    """Raise a ValueError if pictures are to be moved or mirrored that are none, or whose labels would stay behind."""
    augmentation = settings.augmentation
    names = [f"--{name.replace('_', '-')}" for name in ("shift", "flip", "pad_crop") if getattr(augmentation, name)]
    if not names or not is_structured(dataset):
        return
    inputs = first_inputs(dataset)
    is_picture = len(inputs) == 1 and inputs[0].dtype == torch.uint8 and inputs[0].dim() == 4
    if task.prediction != "classes" or not is_picture:
        shapes = ", ".join(f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" for x in inputs)
        raise ValueError(
            f"{', '.join(names)} change pictures with a class each, uint8 [batch, C, H, W] with labels [batch], and "
            f"data {settings.data} has {shapes} for the loss {task.name}; augment samples in the data set itself"
        )


def _own(text: str, what: str, said_by: Path | None) -> Callable[..., Any] | None:
    """Return the user's function that a setting names, None if it names none; an instance of a class of losses."""
    if not is_own(text):
        return None
    if said_by is None:
        file = find_own(text, what)
        remember(file)
    else:
        file = find_recorded(text, None, said_by=str(said_by), what=what, option=f"--{what}")
    own = run_own(file, what)
    if what == "loss" and isinstance(own.function, type):
        try:
            made: Callable[..., Any] = own.function()
        except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
            raise ValueError(
                f"loss {text} is a class that cannot be made without arguments ({error}); name an instance of it"
            ) from error
        return made
    return own.function


def _of_pictures(settings: Settings, dataset: Dataset) -> Task:
    if settings.loss not in ("auto", "cross-entropy") and not is_own(settings.loss):
        raise ValueError(
            f"loss {settings.loss} does not fit {settings.data}, whose labels are a class for each image; what fits is "
            "cross-entropy, or a loss of your own"
        )
    smoothing = 0.0 if is_own(settings.loss) else settings.label_smoothing
    return Task.classification(dataset.num_classes, smoothing)


def _of_own_data(settings: Settings, dataset: Dataset, model: nn.Module, *, has_loss: bool) -> Task | None:
    """Return the task that outputs and labels ask for, or that the settings name; None if only an own loss knows."""
    first = first_call(dataset, model, settings.batch_size)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), eval_mode(model):
        output = first.copied().run(model)
    fits = _fitting(output, first)
    if settings.loss == "auto" and own_loss(output, got_labels=first.labels_name is not None) is not None:
        return Task.of(_models_own(first.labels_name is not None))
    if has_loss and fits is None:
        return None
    name = fits if settings.loss == "auto" or has_loss else settings.loss
    if name is None:
        raise ValueError(f"{_shapes(output, first)}; they do not say which loss; give one with --loss")
    try:
        task = _made(name, logits_of(output), settings, has_loss=has_loss)
        task.check(output, first.labels, f"loss {name}")
    except (ValueError, TypeError, IndexError) as error:
        if not isinstance(error, InputError) or fits == name:
            raise
        better = "a loss of your own" if fits is None else fits
        raise ValueError(f"{error}; what fits them is {better}") from None
    classes = dataset.train.num_classes
    if task.prediction in ("classes", "pixels") and classes not in (None, task.outputs):
        raise ValueError(f"the model returns {task.outputs} outputs, and data {dataset.name} has {classes} classes")
    return task


def _fitting(output: Any, batch: Batch) -> str | None:
    """Return which loss of the command line fits outputs and labels, None if none does."""
    if batch.labels is None:
        return None
    try:
        z, y = logits_of(output), batch.labels
        # Whether all labels are inside of the classes is said later, with the place of one that is not.
        if isinstance(y, Tensor) and targets.are_classes(y, z):
            return "cross-entropy" if z.dim() == 2 else "pixels"
        judged = objective(z, [dataclasses.replace(batch, labels_name=None)], None)
    except (TypeError, ValueError):
        return None
    return None if judged is None else _NAMES.get(judged.name)


def _made(name: str, z: Tensor, settings: Settings, *, has_loss: bool) -> Task:
    columns = z.shape[1] if z.dim() > 1 else 1
    if name == "cross-entropy":
        return Task.classification(max(2, columns), 0.0 if has_loss else settings.label_smoothing)
    if name == "pixels":
        return Task.segmentation(max(2, columns), settings.ignore_index)
    return Task.multi_label(columns) if name == "bce" else Task.regression(columns)


def _models_own(got_labels: bool) -> Callable[[Any, Any], Tensor]:
    def loss_of_the_model(output: Any, labels: Any = None) -> Tensor:
        found = own_loss(output, got_labels=got_labels)
        if found is None:
            raise TypeError("the model returned no loss, as it did for the first batch")
        return found

    return loss_of_the_model


def _shapes(output: Any, batch: Batch) -> str:
    outputs = ", ".join(str(list(x.shape)) for x in tensors_in(output))
    labels = ", ".join(f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" for x in tensors_in(batch.labels))
    return f"the model returns {outputs or type(output).__name__}, and the labels are {labels or 'none'}"
