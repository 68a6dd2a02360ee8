"""SVHN's cropped digits: .mat files of 32×32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .finding import check_folder, place_of
from .images import Dataset, Images
from .matlab import read_mat

_TRAIN, _TEST, _EXTRA = ("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat")
_CLASSES = 10


def svhn_place(folder: Path) -> Path | None:
    """Return where the files are, None if they are not there."""
    return place_of(folder, (_TRAIN, _TEST))


def svhn(folder: str | Path | None, *, extra: bool = False) -> Dataset[Images]:
    """Read train_32x32.mat and test_32x32.mat, of which the label 10 means the digit 0: uint8 [N, 3, 32, 32].

    Args:
        folder: of the files.
        extra: the images of extra_32x32.mat are training images, too.

    Raises:
        NotADirectoryError, FileNotFoundError: no folder, or not these files. ValueError: a damaged file.
        ImportError: SciPy is not installed.
    """
    files = f"{_TRAIN} and {_TEST}"
    asked = check_folder(folder, "svhn", files)
    place = svhn_place(asked)
    if place is None:
        raise FileNotFoundError(f"{asked} has no svhn: {files} must be there, or in a folder below it")
    if extra and not (place / _EXTRA).is_file():
        raise FileNotFoundError(f"{place} has no {_EXTRA}, which --extra adds to the training images")
    parts = [_read(place / name) for name in ((_TRAIN, _EXTRA) if extra else (_TRAIN,))]
    train = Images(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]), _CLASSES)
    return Dataset("svhn", train, _read(place / _TEST), tuple("0123456789"))


def _read(path: Path) -> Images:
    content = read_mat(path, ("X", "y"))
    pixels, labels = content["X"], content["y"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise ValueError(f"{path} must hold X as uint8 [32, 32, 3, N], got {pixels.dtype} {list(pixels.shape)}")
    numbers = labels.reshape(-1).astype(np.int64)
    if len(numbers) != pixels.shape[3]:
        raise ValueError(f"{path} holds {pixels.shape[3]} images, but {len(numbers)} labels")
    if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= _CLASSES:
        raise ValueError(f"{path} has labels from {numbers.min()} to {numbers.max()}; they must be 1 to 10, 10 for 0")
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
    return Images(images, torch.from_numpy(numbers % _CLASSES), _CLASSES)
