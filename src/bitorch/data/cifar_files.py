"""CIFAR-10 and CIFAR-100, as their archives are unpacked: Python's pickle files or the binary version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .finding import check_folder, place_of
from .images import Dataset, Images
from .plain_pickle import read_plain_pickle

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Format:
    train: tuple[str, ...]
    test: str
    names: str
    classes: int
    #: Of a row in the binary version: bytes before the pixels, the last of which is the label.
    label_bytes: int = 1
    labels: bytes = b"labels"
    label_names: bytes = b"label_names"


_PYTHON = {
    "cifar10": _Format(tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta", 10),
    "cifar100": _Format(("train",), "test", "meta", 100, labels=b"fine_labels", label_names=b"fine_label_names"),
}
_BINARY = {
    "cifar10": _Format(tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "batches.meta.txt", 10),
    "cifar100": _Format(("train.bin",), "test.bin", "fine_label_names.txt", 100, label_bytes=2),
}


def cifar_place(folder: Path, name: Literal["cifar10", "cifar100"]) -> tuple[Path, bool] | None:
    """Return where the files are, and whether they are the binary ones; None if they are not there."""
    for formats, is_binary in ((_PYTHON, False), (_BINARY, True)):
        place = place_of(folder, (*formats[name].train, formats[name].test, formats[name].names))
        if place is not None:
            return place, is_binary
    return None


def cifar(folder: str | Path | None, name: Literal["cifar10", "cifar100"]) -> Dataset[Images]:
    """Read CIFAR-10 or CIFAR-100 (with its 100 fine labels): uint8 [N, 3, 32, 32], with the names of the classes.

    Args:
        folder: that the archive was unpacked in, or the folder in it.
        name: which of the two.

    Raises:
        NotADirectoryError, FileNotFoundError: no folder, or not these files; ValueError: a damaged file.
    """
    wanted = f"the files of {_PYTHON[name].test}'s or {_BINARY[name].test}'s version"
    place = check_folder(folder, name, wanted)
    found = cifar_place(place, name)
    if found is None:
        python, binary = (", ".join((*f[name].train, f[name].test, f[name].names)) for f in (_PYTHON, _BINARY))
        raise FileNotFoundError(f"{place} has no {name}: neither {python} nor {binary}, also not in a folder below it")
    place, is_binary = found
    form = (_BINARY if is_binary else _PYTHON)[name]
    read = _read_binary if is_binary else _read_python
    parts = [[read(place / file, form) for file in files] for files in (form.train, (form.test,))]
    train, test = (
        Images(torch.cat([images for images, _ in part]), torch.cat([labels for _, labels in part]), form.classes)
        for part in parts
    )
    return Dataset(name, train, test, _names(place / form.names, form, is_binary=is_binary))


def _read_python(path: Path, form: _Format) -> tuple[Tensor, Tensor]:
    content = read_plain_pickle(path)
    data, labels = _entry(path, content, b"data"), _entry(path, content, form.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise ValueError(f"{path} must hold data as uint8 [N, {_PIXELS}]")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(type(label) is int for label in labels):
        raise ValueError(f"{path} must hold one label for each of its {len(data)} images")
    return _images(path, data, np.array(labels), form)


def _read_binary(path: Path, form: _Format) -> tuple[Tensor, Tensor]:
    row = form.label_bytes + _PIXELS
    size = path.stat().st_size
    if size == 0 or size % row:
        raise ValueError(f"{path} must hold rows of {row} bytes, and has {size} bytes")
    rows = np.fromfile(path, np.uint8).reshape(-1, row)
    return _images(path, rows[:, form.label_bytes :], rows[:, form.label_bytes - 1].astype(np.int64), form)


def _images(path: Path, data: Any, labels: Any, form: _Format) -> tuple[Tensor, Tensor]:
    if len(labels) and not 0 <= labels.min() <= labels.max() < form.classes:
        raise ValueError(f"{path} has labels from {labels.min()} to {labels.max()}, beyond its {form.classes} classes")
    pixels = torch.from_numpy(np.array(data, order="C")).view(-1, *_SHAPE)
    return pixels, torch.from_numpy(labels.astype(np.int64))


def _names(path: Path, form: _Format, *, is_binary: bool) -> tuple[str, ...]:
    if is_binary:
        names: Sequence[Any] = path.read_text(encoding="utf-8", errors="replace").split()
    else:
        names = _entry(path, read_plain_pickle(path), form.label_names)
    texts = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]
    if len(texts) != form.classes or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} must hold the names of {form.classes} classes, and has {len(texts)}")
    return tuple(texts)


def _entry(path: Path, content: Any, key: bytes) -> Any:
    """Return what a mapping holds under a name, in bytes (Python 2) or text (Python 3)."""
    if isinstance(content, dict):
        for name in (key, key.decode()):
            if name in content:
                return content[name]
    raise ValueError(f"{path} is no file of CIFAR: it has no {key.decode()!r}")
