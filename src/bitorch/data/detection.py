"""What a folder looks like."""

from __future__ import annotations

from pathlib import Path

from .cifar_files import cifar_place
from .imagenet import is_imagenet
from .mnist import mnist_place
from .picture_folder import class_folders, parts_of
from .svhn_files import svhn_place


def detect(folder: str | Path) -> str | None:
    """Return the name, for `load` and --data, of what a folder looks like, None if like nothing known.

    File and folder names are looked at, and no file is opened.
    """
    place = Path(folder)
    if not place.is_dir():
        return None
    if mnist_place(place) is not None:
        return "mnist"
    if cifar_place(place, "cifar10") is not None:
        return "cifar10"
    if cifar_place(place, "cifar100") is not None:
        return "cifar100"
    if svhn_place(place) is not None:
        return "svhn"
    if is_imagenet(place):
        return "imagenet"
    if any(place.glob("*.tar")):
        return "webdataset"
    train, _ = parts_of(place)
    return "images" if class_folders(train if train is not None else place) else None
