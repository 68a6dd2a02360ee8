"""How good the model of a checkpoint is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from ..data import BatchLoader, load
from .checkpoint import load_model, read_checkpoint
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
    images = load(data, folder, pad_to=read.settings.pad_to).test
    shape = tuple(images.images.shape[1:])
    if (shape, images.num_classes) != (read.input_shape, read.num_classes):
        raise ValueError(
            f"{data} has images {shape} [C, H, W] of {images.num_classes} classes, "
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
        loader = BatchLoader(images, min(_BATCH_SIZE, len(images)), shuffle=False)
        (metrics,) = trainer.validate(Classifier(model, images.num_classes), loader, verbose=False)
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
