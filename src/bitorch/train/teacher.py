"""The net that a run learns from: that of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..data import Dataset
from .distillation import fingerprint
from .trained import load_trained


@dataclass(frozen=True)
class Teacher:
    """A trained net, with its file and what tells its weights from others."""

    path: Path
    model: nn.Module
    fingerprint: str


def load_teacher(path: Path, dataset: Dataset, classes: int | None, model: str | None = None) -> Teacher:
    """Return the net of a checkpoint of `fit`, which must take the images of a data set and know their classes.

    Args:
        path: the checkpoint.
        dataset: of the run.
        classes: of the run's outputs.
        model: what makes the net, in place of what the checkpoint says.

    Raises:
        FileNotFoundError, ValueError: as `load_model`; ValueError too for other images or classes.
    """
    trained = load_trained(path, model, what="model of --distil", option="--distil-model")
    checkpoint, net = trained.checkpoint, trained.model
    shape = dataset.train.shape
    if checkpoint.input_shape not in (None, shape) or checkpoint.num_classes not in (None, classes):
        raise ValueError(
            f"distil: {path} was trained on images {checkpoint.input_shape} [C, H, W] of {checkpoint.num_classes} "
            f"classes, and this run has images {shape} of {classes}; both must be the same"
        )
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack the memory format
    return Teacher(path, net, fingerprint(net))
