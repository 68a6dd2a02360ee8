"""The data sets that the command line knows by name, and those of a user's own function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, overload

from ..known_names import DATA_NAMES as DATA_NAMES
from ..known_names import wrong_data
from ..own_code import is_own
from .cifar_files import cifar
from .detection import detect
from .embedded import digits
from .fake import fake
from .finding import check_folder
from .imagenet import imagenet
from .images import Dataset, Images
from .in_shape import in_shape
from .mnist import mnist_folder
from .options import DataOptions
from .own_data import own_dataset
from .padding import pad_to_square
from .picture_sets import picture_folder
from .svhn_files import svhn
from .webdataset import webdataset

_Folder = str | Path | None
_Read = Callable[[_Folder, DataOptions], Dataset]
_InMemory = Literal["digits", "mnist", "cifar10", "cifar100", "svhn", "fake"]
#: Data sets whose images are all in memory, so that they may be padded, and resized at once.
_IN_MEMORY: dict[str, Callable[[_Folder, DataOptions], Dataset[Images]]] = {
    "digits": lambda folder, options: digits(),
    "mnist": lambda folder, options: mnist_folder(check_folder(folder, "mnist", "the four IDX files of the family")),
    "cifar10": lambda folder, options: cifar(folder, "cifar10"),
    "cifar100": lambda folder, options: cifar(folder, "cifar100"),
    "svhn": lambda folder, options: svhn(folder, extra=options.extra),
    "fake": lambda folder, options: fake(options),
}
_PICTURES: dict[str, _Read] = {
    "imagenet": imagenet,
    "images": picture_folder,
    "webdataset": webdataset,
}
_WITHOUT_FOLDER = ("digits", "fake")
_DEFAULTS = DataOptions()


@overload
def load(
    name: _InMemory, folder: _Folder = ..., *, pad_to: int = ..., options: DataOptions = ...
) -> Dataset[Images]: ...


@overload
def load(name: str, folder: _Folder = ..., *, pad_to: int = ..., options: DataOptions = ...) -> Dataset: ...


def load(name: str, folder: _Folder = None, *, pad_to: int = 0, options: DataOptions = _DEFAULTS) -> Dataset:
    """Return a data set by its name, from its folder. Nothing is downloaded.

    Args:
        name: one of DATA_NAMES, or "file.py:make" or "package.module:make" of a function of one's own, which is run.
        folder: that holds its files; of "digits" and "fake" none.
        pad_to: as of the options, over which it counts.
        options: how the data set is read.

    Raises:
        TypeError: pad_to is no int.
        ValueError: another name, no folder, a folder where none is read, broken files, options that the data set does
            not have or that do not fit it. Where the folder looks like another data set, the message names that.
        OSError: the folder or files in it are missing.
        ImportError: a package that the data set is read with is not installed.
    """
    if pad_to:
        options = dataclasses.replace(options, pad_to=pad_to)
    if is_own(name):
        return own_dataset(name, options, None if folder is None else Path(folder))
    if problem := wrong_data(name):
        raise ValueError(problem)
    _check_options(name, folder, options)
    try:
        data = _in_memory(name, folder, options) if name in _IN_MEMORY else _PICTURES[name](folder, options)
    except (ValueError, FileNotFoundError) as error:
        raise _with_hint(error, name, folder) from None
    return dataclasses.replace(data, normalization=options.normalization)


def _in_memory(name: str, folder: _Folder, options: DataOptions) -> Dataset:
    data = in_shape(_IN_MEMORY[name](folder, options), options)
    return data if options.pad_to == 0 else pad_to_square(data, options.pad_to)


def _check_options(name: str, folder: _Folder, options: DataOptions) -> None:
    if name in _WITHOUT_FOLDER and folder is not None:
        where = "comes with scikit-learn" if name == "digits" else "is made up"
        raise ValueError(f'data "{name}" {where} and takes no folder, got {str(folder)!r}')
    for option, owner in (("extra", "svhn"), ("shards", "webdataset"), ("val_shards", "webdataset")):
        if getattr(options, option) and name != owner:
            raise ValueError(f'{option} is for data "{owner}", and not for "{name}"')


def _with_hint(error: ValueError | FileNotFoundError, name: str, folder: _Folder) -> Exception:
    """Return the error with the name of what the folder looks like, if that is something else."""
    found = None if folder is None else detect(folder)
    if found is None or found == name or {found, name} <= set(_PICTURES):
        return error
    return type(error)(f"{error}. {folder} looks like {found}: say --data {found}")
