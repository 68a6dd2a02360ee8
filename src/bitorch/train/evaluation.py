"""How good the model of a checkpoint is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from ..conversion.layer_configs import Configs
from ..data import BatchLoader, load
from ..known_names import is_given
from ..models.own import GivenNet
from .checkpoint import Checkpoint, read_checkpoint
from .classifier import Classifier
from .hardware import check_hardware
from .progress import quiet_lightning
from .trained import load_trained

_BATCH_SIZE = 256


@dataclass(frozen=True)
class Evaluation:
    """Result on the test images of a data set.

    Attributes:
        checkpoint, data, model, bits: what was evaluated on what; bits is None if rules, or what is passed, say them.
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
    checkpoint: str | Path,
    data: str | None = None,
    folder: str | Path | None = None,
    *,
    model: GivenNet | str | None = None,
    config: Configs | None = None,
    accelerator: str = "auto",
) -> Evaluation:
    """Evaluate a checkpoint on test images.

    Args:
        checkpoint: the file.
        data, folder: as in Settings; None for both: the data of the run. Images are padded as the run's were.
        model, config: see `load_model`, for a checkpoint of a Trainer of one's own.
        accelerator: as in Settings.

    Raises:
        FileNotFoundError, ValueError: see `read_checkpoint`, `load_model` and `bitorch.data.load`; ValueError too for
            images of another shape or number of classes, and where neither the checkpoint nor an argument names them.
    """
    check_hardware(accelerator, devices=1)
    read = read_checkpoint(checkpoint, any_module=model is not None)
    data, folder = data_of(read, data, folder)
    images = load(data, folder, pad_to=0 if read.settings is None else read.settings.pad_to).test
    channels, height, width = images.images.shape[1:]
    shape = (channels, height, width)
    if read.input_shape not in (None, shape) or read.num_classes not in (None, images.num_classes):
        raise ValueError(
            f"{data} has images {shape} [C, H, W] of {images.num_classes} classes, "
            f"{checkpoint} was trained on {read.input_shape} of {read.num_classes}"
        )
    trained = load_trained(read, model, config=config, input_shape=shape, num_classes=images.num_classes)
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
        (metrics,) = trainer.validate(Classifier(trained.model, images.num_classes), loader, verbose=False)
    return Evaluation(
        checkpoint=str(checkpoint),
        data=data,
        model=trained.source.name,
        bits=None if read.settings is None or read.rules is not None else read.settings.bits,
        images=len(images),
        loss=metrics["val/loss"],
        top1=metrics["val/acc"],
        top5=metrics.get("val/top5"),
    )


def data_of(checkpoint: Checkpoint, data: str | None, folder: str | Path | None) -> tuple[str, str | Path | None]:
    """Return the name and folder of the data that a checkpoint is looked at on: those that are given, or the run's.

    Raises:
        ValueError: nobody names them.
    """
    if data is not None:
        return data, folder
    settings = checkpoint.settings
    if settings is None:
        raise ValueError(f"{checkpoint.path} does not say what it was trained on; name the data with --data")
    if is_given(settings.data):
        raise ValueError(f"{checkpoint.path} is of data that were passed in Python; name others with --data")
    return settings.data, settings.folder if folder is None else folder
