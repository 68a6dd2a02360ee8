"""The data of a run: sets with a name here and those of the user's own, and batches of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..batches import Batch, read_batch
from ..containers import tensors_in
from ..data import Dataset, load, to_float
from ..data.items import Items, Stream
from ..data.loaders import first_batch
from ..own_code import find_own, is_own
from ..recorded_code import find_recorded, remember
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
    if is_own(settings.data):
        if said_by is None:
            remember(find_own(settings.data, "data"))
        else:
            find_recorded(settings.data, None, said_by=str(said_by), what="data", option="--data")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        return load(settings.data, settings.folder, options=settings.data_options)


def is_structured(dataset: Dataset) -> bool:
    """Return whether batches are those of a user's own data set, of any structure, and not pictures with classes."""
    return isinstance(dataset.train, Items | Stream)


def picture_shape(dataset: Dataset) -> tuple[int, int, int] | None:
    """Return the shape of one picture, [C, H, W]; None where inputs are none."""
    shape = dataset.train.shape
    return (shape[0], shape[1], shape[2]) if shape is not None and len(shape) == 3 else None


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


def first_inputs(dataset: Dataset) -> list[torch.Tensor]:
    """Return the tensors of the first training sample as a batch, its labels left out where it is a pair."""
    batch = first_batch(dataset.train, 1)
    return tensors_in(batch[0] if isinstance(batch, tuple | list) and len(batch) == 2 else batch)
