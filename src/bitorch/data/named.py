"""The data sets that the command line knows by name."""

from __future__ import annotations

from pathlib import Path

from ..known_names import DATA_NAMES as DATA_NAMES
from ..known_names import wrong_data
from .embedded import digits
from .images import Dataset
from .mnist import mnist_folder
from .padding import pad_to_square


def load(name: str, folder: str | Path | None = None, *, pad_to: int = 0) -> Dataset:
    """Return the data set "digits", or "mnist" (any of the MNIST family) from its folder.

    Args:
        name: "digits" or "mnist".
        folder: that holds the files of "mnist".
        pad_to: height and width that all images are padded to with zeros, the image in the middle; 0 is off.

    Raises:
        TypeError: pad_to is no int.
        ValueError: another name, no folder for "mnist", a folder for "digits", broken files, pad_to that is neither 0
            nor at least the images' height and width.
        OSError: the folder or files in it are missing.
        ImportError: "digits" without scikit-learn.
    """
    data = _read(name, folder)
    return data if pad_to == 0 else pad_to_square(data, pad_to)


def _read(name: str, folder: str | Path | None) -> Dataset:
    if name == "digits":
        if folder is not None:
            raise ValueError(f'data "digits" comes with scikit-learn and takes no folder, got {str(folder)!r}')
        return digits()
    if name == "mnist":
        if folder is None:
            raise ValueError('data "mnist" needs the folder that holds its four IDX files')
        return mnist_folder(folder)
    raise ValueError(wrong_data(name))
