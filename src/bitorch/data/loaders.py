"""The loader that fits a split."""

from __future__ import annotations

from typing import Any

from .batch_loader import BatchLoader
from .epoch_loader import EpochLoader
from .image_files import ImageFiles
from .images import Images, Split
from .items import ItemLoader, Items, Stream
from .picture_augmentation import PictureAugmentation
from .picture_loader import PictureLoader


def loader(
    split: Split,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int = 0,
    drop_last: bool = False,
    workers: int = 0,
    transform: PictureAugmentation | None = None,
) -> EpochLoader:
    """Return batches of a split, with the promises of `EpochLoader`: of pictures uint8 [B, C, H, W] and int64 [B].

    Args:
        split: of a `Dataset`.
        batch_size, shuffle, seed, drop_last: as of `EpochLoader`.
        workers: processes that read; tensors in memory need none.
        transform: random changes to pictures, in training.

    Raises:
        TypeError, ValueError: as `EpochLoader`; TypeError for what is no split.
    """
    order: dict[str, Any] = {"shuffle": shuffle, "seed": seed, "drop_last": drop_last}
    if isinstance(split, Images) and not transform:
        return BatchLoader(split, batch_size, **order)
    if isinstance(split, Images):
        split = ImageFiles.of(split)
    if isinstance(split, ImageFiles):
        return PictureLoader(split, batch_size, workers=workers, augmentation=transform, **order)
    if isinstance(split, Items | Stream):
        if transform:
            raise ValueError(
                f"{split.name}: random crops, RandAugment and colour jitter are for pictures of known formats"
            )
        return ItemLoader(split, batch_size, workers=workers, **order)
    raise TypeError(f"split must be a part of a bitorch.data.Dataset, got {type(split).__name__}")


def first_batch(split: Split, batch_size: int) -> Any:
    """Return the first batch of a split, in its order, or all of it if it is smaller; read without workers."""
    return next(iter(loader(split, min(batch_size, len(split)), shuffle=False)))
