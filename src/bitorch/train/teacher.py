"""The net that a run learns from: that of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..data import Dataset
from .checkpoint import load_model, read_checkpoint
from .distillation import fingerprint


@dataclass(frozen=True)
class Teacher:
    """A trained net, with its file and what tells its weights from others."""

    path: Path
    model: nn.Module
    fingerprint: str


def load_teacher(path: Path, dataset: Dataset) -> Teacher:
    """Return the net of a checkpoint of `fit`, which must take the images of a data set and know their classes.

    Raises:
        FileNotFoundError, ValueError: as `load_model`; ValueError too for other images or classes.
    """
    checkpoint = read_checkpoint(path)
    model = load_model(path)
    shape = dataset.input_shape
    if (checkpoint.input_shape, checkpoint.num_classes) != (shape, dataset.num_classes):
        raise ValueError(
            f"distil: {path} was trained on images {checkpoint.input_shape} [C, H, W] of {checkpoint.num_classes} "
            f"classes, and this run has images {shape} of {dataset.num_classes}; both must be the same"
        )
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack the memory format
    return Teacher(path, model, fingerprint(model))
