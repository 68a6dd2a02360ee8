"""How good the model of a checkpoint is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from ..data import Channels, DataOptions, load, loader
from ..known_names import PICTURE_DATA
from .checkpoint import Checkpoint, load_model, read_checkpoint
from .classifier import Classifier
from .hardware import check_hardware
from .progress import quiet_lightning

_BATCH_SIZE = 256


@dataclass(frozen=True)
class Evaluation:
    """Result on the test images of a data set.

    Attributes:
        checkpoint, data, model, bits: what was evaluated on what; bits is None if rules say them.
        images: their number.
        loss: mean cross-entropy.
        top1, top5: accuracy in [0, 1]; top5 is None with up to 5 classes.
    """

    checkpoint: str
    data: str
    model: str
    bits: tuple[int, int, int] | None
    images: int
    loss: float
    top1: float
    top5: float | None


def evaluate(
    checkpoint: str | Path, data: str | None = None, folder: str | Path | None = None, *, accelerator: str = "auto"
) -> Evaluation:
    """Evaluate a checkpoint of `fit` on test images.

    Args:
        checkpoint: the file.
        data, folder: as in Settings; None for both: the data of the run. Images are padded as the run's were.
        accelerator: as in Settings.

    Raises:
        FileNotFoundError, ValueError: see `read_checkpoint`, `load_model` and `bitorch.data.load`; ValueError too for
            images of another shape or number of classes.
    """
    check_hardware(accelerator, devices=1)
    model = load_model(checkpoint)
    read = read_checkpoint(checkpoint)
    assert read.settings is not None  # or load_model had raised
    if data is None:
        data = read.settings.data
        folder = read.settings.folder if folder is None else folder
    dataset = load(data, folder, options=evaluation_options(read, data))
    images, shape = dataset.test, dataset.input_shape
    if (shape, dataset.num_classes) != (read.input_shape, read.num_classes):
        raise ValueError(
            f"{data} has images {shape} [C, H, W] of {dataset.num_classes} classes, "
            f"{checkpoint} was trained on {read.input_shape} of {read.num_classes}"
        )
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches = loader(images, min(_BATCH_SIZE, len(images)), shuffle=False, workers=read.settings.workers)
        (metrics,) = trainer.validate(Classifier(model, dataset.num_classes), batches, verbose=False)
    return Evaluation(
        checkpoint=str(checkpoint),
        data=data,
        model=read.settings.model,
        bits=read.settings.bits if read.settings.rules is None else None,
        images=len(images),
        loss=metrics["val/loss"],
        top1=metrics["val/acc"],
        top5=metrics.get("val/top5"),
    )


def evaluation_options(checkpoint: Checkpoint, data: str) -> DataOptions:
    """Return how images are read on which a checkpoint of `fit` is evaluated.

    As in its run; pictures of a folder are of its classes, and are brought to its size and channels.
    """
    settings, shape = checkpoint.settings, checkpoint.input_shape
    assert settings is not None  # as it is one of `fit`
    options = settings.data_options
    if settings.data not in PICTURE_DATA or data not in PICTURE_DATA or shape is None:
        return options
    names = checkpoint.class_names if settings.data == data == "images" else None
    channels: Channels = "1" if shape[0] == 1 else "3"
    size = options.image_size if shape[1] != shape[2] else shape[1]
    return dataclasses.replace(options, class_names=names, channels=channels, image_size=size, keeps_size=False)
