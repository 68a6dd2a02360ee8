"""Data sets, in memory or read when they are wanted, batches of them, and augmentation. Nothing is downloaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .augmentation import Augmentation as Augmentation
    from .augmentation import random_flip as random_flip
    from .augmentation import random_pad_crop as random_pad_crop
    from .augmentation import random_shift as random_shift
    from .batch_loader import BatchLoader as BatchLoader
    from .cifar_files import cifar as cifar
    from .criteo import Clicks as Clicks
    from .criteo import criteo_batches as criteo_batches
    from .criteo import read_criteo as read_criteo
    from .detection import detect as detect
    from .embedded import digits as digits
    from .epoch_loader import EpochLoader as EpochLoader
    from .idx import read_idx as read_idx
    from .image_files import ImageFiles as ImageFiles
    from .images import Dataset as Dataset
    from .images import Images as Images
    from .images import Split as Split
    from .images import to_float as to_float
    from .items import Items as Items
    from .items import Stream as Stream
    from .loaders import first_batch as first_batch
    from .loaders import loader as loader
    from .mnist import mnist_folder as mnist_folder
    from .named import DATA_NAMES as DATA_NAMES
    from .named import load as load
    from .normalization import IMAGENET as IMAGENET
    from .normalization import Normalization as Normalization
    from .normalization import Normalize as Normalize
    from .normalization import normalized as normalized
    from .options import Channels as Channels
    from .options import DataOptions as DataOptions
    from .own_data import dataset_of as dataset_of
    from .picture_augmentation import PictureAugmentation as PictureAugmentation
    from .picture_sets import decoded_at as decoded_at
    from .pictures import PictureError as PictureError
    from .pictures import fit as fit
    from .pictures import picture_suffixes as picture_suffixes
    from .pictures import read_picture as read_picture
    from .pictures import to_pixels as to_pixels
    from .svhn_files import svhn as svhn

# bitorch itself needs torch alone; NumPy and Pillow, which some of these import, come with the trainer.
_HOMES = {
    "Augmentation": "augmentation",
    "BatchLoader": "batch_loader",
    "Channels": "options",
    "Clicks": "criteo",
    "DATA_NAMES": "named",
    "DataOptions": "options",
    "Dataset": "images",
    "EpochLoader": "epoch_loader",
    "IMAGENET": "normalization",
    "ImageFiles": "image_files",
    "Images": "images",
    "Items": "items",
    "Normalization": "normalization",
    "Normalize": "normalization",
    "PictureAugmentation": "picture_augmentation",
    "PictureError": "pictures",
    "Split": "images",
    "Stream": "items",
    "cifar": "cifar_files",
    "criteo_batches": "criteo",
    "dataset_of": "own_data",
    "decoded_at": "picture_sets",
    "detect": "detection",
    "digits": "embedded",
    "first_batch": "loaders",
    "fit": "pictures",
    "load": "named",
    "loader": "loaders",
    "mnist_folder": "mnist",
    "normalized": "normalization",
    "picture_suffixes": "pictures",
    "random_flip": "augmentation",
    "random_pad_crop": "augmentation",
    "random_shift": "augmentation",
    "read_criteo": "criteo",
    "read_idx": "idx",
    "read_picture": "pictures",
    "svhn": "svhn_files",
    "to_float": "images",
    "to_pixels": "pictures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *_HOMES})
