"""The data of a run: sets with a name here and those of the user's own, and batches of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..batches import Batch, read_batch
from ..data import Dataset, load, to_float
from ..data.epoch_loader import EpochLoader
from ..data.items import Items, Stream
from ..data.loaders import first_batch, loader
from ..own_code import is_own
from ..recorded_code import find_recorded
from .settings import Settings


def run_data(settings: Settings, *, said_by: Path | None = None) -> Dataset:
    """Return the data set of a run.

    Args:
        settings: of the run.
        said_by: the checkpoint that has them, whose own code runs only if the user has run it here before; None: the
            user has said them.

    Raises:
        ValueError, TypeError, OSError, ImportError: see `bitorch.data.load` and `find_recorded`.
    """
    if said_by is not None and is_own(settings.data):
        find_recorded(settings.data, None, said_by=str(said_by), what="data", option="--data")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        return load(settings.data, settings.folder, pad_to=settings.pad_to)


def is_structured(dataset: Dataset) -> bool:
    """Return whether batches are those of a user's own data set, of any structure, and not pictures with classes."""
    return isinstance(dataset.train, Items | Stream)


def train_loader(dataset: Dataset, settings: Settings) -> EpochLoader:
    """Return the training batches, whose order is a function of seed and epoch."""
    return loader(dataset.train, settings.batch_size, shuffle=True, seed=settings.seed, drop_last=True)


def test_loader(dataset: Dataset, batch_size: int) -> EpochLoader:
    """Return all test samples in their order, in batches of up to so many."""
    return loader(dataset.test, min(batch_size, len(dataset.test)), shuffle=False)


def floats(batch: Any) -> Any:
    """Return a batch of uint8 images, alone or with labels, with floats in [0, 1]; any other as it is."""
    if isinstance(batch, torch.Tensor):
        return to_float(batch) if batch.dtype == torch.uint8 else batch
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], torch.Tensor):
        return (floats(batch[0]), batch[1])
    return batch


def first_call(dataset: Dataset, model: nn.Module, size: int, *, part: str = "train") -> Batch:
    """Return the first samples of a part, "train" or "test", as a call of the model.

    Raises:
        ValueError, TypeError: the model does not take them, by `read_batch`.
    """
    split = dataset.train if part == "train" else dataset.test
    what = "training" if part == "train" else "test"
    return read_batch(first_batch(split, size), model, f"the first {what} batch", pixels=True)
