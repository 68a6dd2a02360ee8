"""Batches straight from tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from .epoch_loader import EpochLoader
from .images import Images


class BatchLoader(EpochLoader):
    """Iterates over batches of images and labels: uint8 [B, C, H, W] and int64 [B], on the images' device.

    There are no worker processes: to index a tensor is faster than to collect single items. Order, sharing between
    processes and `state_dict` are those of `EpochLoader`.

    Args:
        images: at least batch_size of them.
        batch_size: samples per batch and process.
        shuffle: a new random order for each epoch; otherwise the order of the images.
        seed: the order's seed.
        drop_last: leave out a last batch that would be smaller.

    Raises:
        TypeError, ValueError: no images, a batch size outside 1…len(images), arguments of another type. In use: more
            processes than images, or no whole batch for each of them.
    """

    def __init__(
        self, images: Images, batch_size: int, *, shuffle: bool, seed: int = 0, drop_last: bool = False
    ) -> None:
        if not isinstance(images, Images):
            raise TypeError(f"images must be bitorch.data.Images, got {type(images).__name__}")
        super().__init__(len(images), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
        self.images = images

    def _batches(self, epoch: int, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for part in chosen:
            index = part.to(self.images.images.device)
            yield self.images.images[index], self.images.labels[index]
