"""How good the model of a checkpoint is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..conversion.layer_configs import Configs
from ..data import Channels, DataOptions, Dataset, load, loader
from ..deployment.partial.evaluation_choice import EvaluationChoice, check_evaluation
from ..deployment.partial.evaluation_forms import EvaluationForms
from ..known_names import PICTURE_DATA, is_given
from ..models.own import GivenNet
from ..own_code import find_own, is_own
from ..recorded_code import find_recorded, remember
from .checkpoint import Checkpoint, read_checkpoint
from .hardware import check_hardware
from .measured import measured
from .run_data import is_structured, picture_shape
from .run_task import run_task
from .settings import Settings
from .task import Task
from .trained import load_trained

_BATCH_SIZE = 256
_WORKERS = 2


@dataclass(frozen=True)
class Evaluation:
    """Result on the test images of a data set.

    Attributes:
        checkpoint, data, model, bits: what was evaluated on what; bits is None if rules, or what is passed, say them.
        images: their number.
        loss: the mean of the run's loss on labels, such as the cross-entropy.
        top1, top5: accuracy in [0, 1], None where there are no classes; top5 is None with up to 5 classes.
        metric: which of the metrics has chosen the best checkpoint.
        metrics: all of the task, by name.
        evaluated: what low-bit layers have computed with, and why.
    """

    checkpoint: str
    data: str
    model: str
    bits: tuple[int, int, int] | None
    images: int
    loss: float
    top1: float | None
    top5: float | None
    metric: str
    metrics: dict[str, float]
    evaluated: EvaluationForms


def evaluate(
    checkpoint: str | Path,
    data: str | None = None,
    folder: str | Path | None = None,
    *,
    model: GivenNet | str | None = None,
    config: Configs | None = None,
    loss: str | None = None,
    metric: str | None = None,
    accelerator: str = "auto",
    evaluation: EvaluationChoice = "auto",
) -> Evaluation:
    """Evaluate a checkpoint on test images.

    Args:
        checkpoint: the file.
        data, folder: as in Settings; None for both: the data of the run. Images are padded as the run's were.
        model, config: see `load_model`, for a checkpoint of a Trainer of one's own.
        loss, metric: as in Settings; None: those of the run.
        accelerator, evaluation: as in Settings.

    Raises:
        FileNotFoundError, ValueError: see `read_checkpoint`, `load_model` and `bitorch.data.load`; ValueError too for
            images of another shape or number of classes, where neither the checkpoint nor an argument names them, and
            for evaluation="packed" where a layer cannot be packed.
    """
    check_hardware(accelerator, devices=1)
    check_evaluation(evaluation)
    read = read_checkpoint(checkpoint, any_module=model is not None)
    data, folder = data_of(read, data, folder)
    dataset = load(data, folder, options=evaluation_options(read, data))
    images, shape, classes = dataset.test, picture_shape(dataset), dataset.test.num_classes
    is_other = not is_structured(dataset) and read.num_classes not in (None, classes)
    if is_other or read.input_shape not in (None, shape):
        raise ValueError(
            f"{data} has images {shape} [C, H, W] of {classes} classes, "
            f"{checkpoint} was trained on {read.input_shape} of {read.num_classes}"
        )
    trained = load_trained(read, model, config=config, input_shape=shape, num_classes=classes)
    task = task_of(read, dataset, trained.model, loss=loss, metric=metric)
    batches = loader(images, min(_BATCH_SIZE, len(images)), shuffle=False, workers=_WORKERS)
    metrics, evaluated = measured(trained.model, task, batches, accelerator, evaluation)
    return Evaluation(
        checkpoint=str(checkpoint),
        data=data,
        model=trained.source.name,
        bits=None if read.settings is None or read.rules is not None else read.settings.bits,
        images=len(images),
        loss=metrics["loss"],
        top1=metrics.get("acc"),
        top5=metrics.get("top5"),
        metric=task.best,
        metrics={name: value for name, value in metrics.items() if name != "loss"},
        evaluated=evaluated,
    )


def task_of(
    checkpoint: Checkpoint, dataset: Dataset, model: nn.Module, *, loss: str | None = None, metric: str | None = None
) -> Task:
    """Return the task that a checkpoint's net is evaluated for: that of its run, else the one that the data ask for.

    Args:
        checkpoint: whose run had a loss and a metric.
        dataset, model: see `run_task`.
        loss, metric: that the user names in place of those.

    Raises:
        ValueError, TypeError, FileNotFoundError: see `run_task`.
    """
    # In evaluation the loss is that of the labels as they are.
    settings = Settings() if checkpoint.settings is None else checkpoint.settings
    named = {"loss": loss, "metric": metric}
    given: dict[str, Any] = {name: text for name, text in named.items() if text is not None}
    for what, text in given.items():
        if is_own(text):
            remember(find_own(text, what))
    if loss is not None and metric is None:
        given["metric"] = "auto"
    settings = dataclasses.replace(settings, label_smoothing=0.0, **given)
    return run_task(settings, dataset, model, said_by=checkpoint.path)


def evaluation_options(checkpoint: Checkpoint, data: str) -> DataOptions:
    """Return how images are read on which a checkpoint is evaluated.

    As in its run; pictures of a folder are of its classes, and are brought to its size and channels.
    """
    settings, shape = checkpoint.settings, checkpoint.input_shape
    if settings is None:
        return DataOptions()
    options = settings.data_options
    if settings.data not in PICTURE_DATA or data not in PICTURE_DATA or shape is None:
        return options
    names = checkpoint.class_names if settings.data == data == "images" else None
    channels: Channels = "1" if shape[0] == 1 else "3"
    size = options.image_size if shape[1] != shape[2] else shape[1]
    return dataclasses.replace(options, class_names=names, channels=channels, image_size=size, keeps_size=False)


def data_of(checkpoint: Checkpoint, data: str | None, folder: str | Path | None) -> tuple[str, str | Path | None]:
    """Return the name and folder of the data that a checkpoint is looked at on: those that are given, or the run's.

    Raises:
        ValueError: nobody names them. ValueError, FileNotFoundError: see `find_recorded`, of the user's own function.
    """
    if data is not None:
        return data, folder
    settings = checkpoint.settings
    if settings is None:
        raise ValueError(f"{checkpoint.path} does not say what it was trained on; name the data with --data")
    if is_given(settings.data):
        raise ValueError(f"{checkpoint.path} is of data that were passed in Python; name others with --data")
    folder = settings.folder if folder is None else folder
    if not is_own(settings.data):
        return settings.data, folder
    said_by = str(checkpoint.path)
    found = find_recorded(settings.data, checkpoint.data_fingerprint, said_by=said_by, what="data", option="--data")
    return found.text, folder
