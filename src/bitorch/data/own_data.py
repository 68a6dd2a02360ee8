"""Data of a function of the user's own, as splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from ..own_code import call_with_what_it_takes, errors_shown, find_own, run_own
from ..recorded_code import remember
from .image_files import ImageFiles
from .images import Dataset, Images, Split
from .items import Collate, ItemLoader, Items, Stream
from .options import DataOptions

_KEYS = ("train", "val", "class_names", "num_classes", "input_shape", "train_length", "val_length")


def own_dataset(text: str, options: DataOptions, folder: Path | None = None) -> Dataset:
    """Return the data of "file.py:make" or "package.module:make".

    The function is called with what it names of `image_size`, `folder` and `workers`. It returns (train, val), a dict
    with "train" and "val" and what it likes of "class_names", "num_classes", "input_shape", "train_length" and
    "val_length" (of iterable data without a len()), or a `bitorch.data.Dataset`. Each part is a map-style or iterable
    torch data set, a DataLoader (whose data set, sampler and collate_fn are taken; batches are as large as the settings
    say) or `Images`.

    Raises:
        ValueError, TypeError, FileNotFoundError: as `read_own` and `dataset_of`; errors of the function come with its
            file and line.
    """
    file = find_own(text, "data")
    own = run_own(file, "data")
    remember(file)
    with errors_shown(own, f"data {text}"):
        made = call_with_what_it_takes(
            own.function, image_size=options.image_size, folder=folder, workers=options.workers
        )
    return dataclasses.replace(dataset_of(made, text, options), fingerprint=own.sha256)


def dataset_of(made: Any, name: str, options: DataOptions) -> Dataset:
    """Return what a function of the user's, or a caller in Python, gives as data, as a `Dataset`.

    Raises:
        TypeError, ValueError: something else than `own_dataset` says.
    """
    if isinstance(made, Dataset):
        said = made.normalization if options.normalization is None else options.normalization
        return dataclasses.replace(made, normalization=said)
    given: Mapping[str, Any]
    if isinstance(made, Mapping):
        unknown = [key for key in made if key not in _KEYS]
        if unknown or not {"train", "val"} <= set(made):
            raise ValueError(
                f"data {name}: a dict must have train and val, and may have {', '.join(_KEYS[2:])}; got "
                f"{', '.join(map(str, made))}"
            )
        given = made
    elif isinstance(made, Sequence) and len(made) == 2:
        given = {"train": made[0], "val": made[1]}
    else:
        raise TypeError(
            f"data {name}: must be (train, val), a dict with train and val, or a bitorch.data.Dataset, got "
            f"{type(made).__name__}"
        )
    classes = _classes(given, name)
    shape = None if given.get("input_shape") is None else tuple(int(side) for side in given["input_shape"])
    parts = [_split(given, part, name, classes, shape) for part in ("train", "val")]
    names = given.get("class_names")
    if names is None and isinstance(getattr(given["train"], "classes", None), list):
        names = given["train"].classes
    return Dataset(name, parts[0], parts[1], None if names is None else tuple(map(str, names)), options.normalization)


def _classes(given: Mapping[str, Any], name: str) -> int | None:
    if given.get("num_classes") is not None:
        count = given["num_classes"]
        if type(count) is not int or count < 1:
            raise ValueError(f"data {name}: num_classes must be a whole number from 1 on, got {count!r}")
        return count
    names = given.get("class_names")
    if names is None:
        names = getattr(given["train"], "classes", None)  # as torchvision's data sets say it
    return len(names) if isinstance(names, Sequence) else None


def _split(given: Mapping[str, Any], part: str, name: str, classes: int | None, shape: tuple[int, ...] | None) -> Split:
    data, sampler = given[part], None
    collate: Collate = default_collate
    what = f"{part} of data {name}"
    if isinstance(data, Images | ImageFiles):
        return data
    if isinstance(data, DataLoader):
        sampler, collate = _sampler(data, what), data.collate_fn
        data = data.dataset
    split: Items | Stream
    if isinstance(data, IterableDataset) or not hasattr(data, "__getitem__"):
        if not hasattr(data, "__iter__"):
            raise TypeError(f"{what} must be a torch Dataset, a DataLoader or Images, got {type(data).__name__}")
        split = Stream(
            data, _length(data, given.get(f"{part}_length"), what), num_classes=classes, name=what, collate=collate
        )
    else:
        if not hasattr(data, "__len__") or len(data) == 0:
            raise ValueError(f"{what} has no samples")
        split = Items(data, num_classes=classes, sampler=sampler, collate=collate, name=what)
    return dataclasses.replace(split, shape=_shape(split) if shape is None else shape)


def _sampler(loader: DataLoader[Any], what: str) -> Any:
    """Return the sampler of a loader, None where its order is one that we make ourselves."""
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        if isinstance(loader.dataset, IterableDataset):
            return None
        raise ValueError(f"{what}: its DataLoader makes batches of its own; give the data set, or a sampler of samples")
    return None if isinstance(loader.sampler, RandomSampler | SequentialSampler) else loader.sampler


def _length(data: Any, given: Any, what: str) -> int:
    if given is not None:
        if type(given) is not int or given < 1:
            raise ValueError(f"{what}: its length must be a whole number from 1 on, got {given!r}")
        return given
    if hasattr(data, "__len__"):
        return len(data)
    raise ValueError(
        f"{what} is iterable and does not say how many samples an epoch has; give it a __len__, or say it as "
        "train_length and val_length in a dict"
    )


def _shape(split: Items | Stream) -> tuple[int, ...] | None:
    """Return the shape of an input of a batch (x, …), or of a batch that is one tensor; None for another batch."""
    batch = next(iter(ItemLoader(split, 1, shuffle=False)))
    x = batch[0] if isinstance(batch, tuple | list) and batch else batch
    return tuple(x.shape[1:]) if isinstance(x, Tensor) else None
