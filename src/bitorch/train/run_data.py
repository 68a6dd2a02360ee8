"""The data of a run: sets with a name here and those of the user's own, and batches of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..batches import Batch, read_batch
from ..data import BatchLoader, Dataset, load, to_float
from ..data.epoch_loader import EpochLoader
from ..data.own import OwnDataset, OwnSplit, own_dataset
from ..data.own_loader import own_loader
from ..own_code import is_own, read_own, run_own
from ..recorded_code import find_recorded
from .settings import Settings


def run_data(settings: Settings, *, said_by: Path | None = None) -> Dataset | OwnDataset:
    """Return the data set of a run.

    Args:
        settings: of the run.
        said_by: the checkpoint that has them, whose own code runs only if the user has run it here before; None: the
            user has said them.

    Raises:
        ValueError, TypeError, OSError, ImportError: see `bitorch.data.load`, `read_own` and `own_dataset`.
    """
    if not is_own(settings.data):
        return load(settings.data, settings.folder, pad_to=settings.pad_to)
    if said_by is None:
        own = read_own(settings.data, "data")
    else:
        file = find_recorded(settings.data, None, said_by=str(said_by), what="data", option="--data")
        own = run_own(file, "data")
    if settings.pad_to:
        raise ValueError(f"pad_to is for pictures with a name here; pad those of {settings.data} where they are read")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        return own_dataset(own, folder=settings.folder, seed=settings.seed, batch_size=settings.batch_size)


def train_loader(dataset: Dataset | OwnDataset, settings: Settings) -> EpochLoader:
    """Return the training batches, whose order is a function of seed and epoch."""
    return _loader(dataset.train, settings.batch_size, shuffle=True, seed=settings.seed, drop_last=True)


def test_loader(dataset: Dataset | OwnDataset, batch_size: int) -> EpochLoader:
    """Return all test samples in their order, in batches of up to so many."""
    return _loader(dataset.test, min(batch_size, len(dataset.test)), shuffle=False)


def _loader(
    split: Any, batch_size: int, *, shuffle: bool, seed: int = 0, drop_last: bool = False, workers: int = 0
) -> EpochLoader:
    if isinstance(split, OwnSplit):
        return own_loader(split, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, workers=workers)
    return BatchLoader(split, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)


def steps_per_epoch(dataset: Dataset | OwnDataset, settings: Settings) -> int:
    """Return how many batches each process trains on in an epoch."""
    if isinstance(dataset.train, OwnSplit) and dataset.train.has_batches:
        return len(dataset.train)
    return len(dataset.train) // (settings.batch_size * settings.processes)


def check_batch_size(dataset: Dataset | OwnDataset, settings: Settings) -> None:
    """Raise a ValueError if there are too few training samples for a batch."""
    if steps_per_epoch(dataset, settings) == 0:
        what = "images" if isinstance(dataset, Dataset) else "samples"
        raise ValueError(
            f"batch_size must be at most {len(dataset.train) // settings.processes}, because there are "
            f"{len(dataset.train)} training {what} for {settings.processes} processes, got {settings.batch_size}"
        )


def first_batch(split: OwnSplit, size: int) -> Any:
    """Return the first samples of a part of own data, in its order, as a batch."""
    return next(iter(own_loader(split, min(size, len(split)), shuffle=False)))


def floats(batch: Any) -> Any:
    """Return a batch of uint8 images, alone or with labels, with floats in [0, 1]; any other as it is."""
    if isinstance(batch, torch.Tensor):
        return to_float(batch) if batch.dtype == torch.uint8 else batch
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], torch.Tensor):
        return (floats(batch[0]), batch[1])
    return batch


def example_of(dataset: OwnDataset, model: torch.nn.Module, size: int) -> Batch:
    """Return the first test samples as a call of the model; ValueError or TypeError if it does not take them."""
    return read_batch(first_batch(dataset.test, size), model, "the first test batch", pixels=True)
