"""The data sets that the command line knows by name."""

from __future__ import annotations

from pathlib import Path

from .embedded import digits
from .images import Dataset
from .mnist import mnist_folder

#: The names that `load` takes.
DATA_NAMES: tuple[str, ...] = ("digits", "mnist")


def load(name: str, folder: str | Path | None = None) -> Dataset:
    """Return the data set "digits", or "mnist" (any of the MNIST family) from its folder.

    Raises:
        ValueError: another name, no folder for "mnist", a folder for "digits", broken files.
        OSError: the folder or files in it are missing.
        ImportError: "digits" without scikit-learn.
    """
    if name == "digits":
        if folder is not None:
            raise ValueError(f'data "digits" comes with scikit-learn and takes no folder, got {str(folder)!r}')
        return digits()
    if name == "mnist":
        if folder is None:
            raise ValueError('data "mnist" needs the folder that holds its four IDX files')
        return mnist_folder(folder)
    raise ValueError(f"unknown data {name!r}; there are {', '.join(DATA_NAMES)}")
