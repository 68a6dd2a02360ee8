"""Batches of pictures that worker processes decode and change at random."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..input_error import InputError
from .epoch_loader import EpochLoader, epoch_generator
from .image_files import ImageFiles
from .picture_augmentation import PictureAugmentation, sample_random
from .pictures import PictureError, to_pixels
from .workers import Workers


class PictureLoader(EpochLoader):
    """Iterates over batches of pictures and labels: uint8 [B, C, H, W] and int64 [B].

    Order, sharing between processes and `state_dict` are those of `EpochLoader`; random changes to a picture are a
    function of seed, epoch and its number. So the batches are the same, bit for bit, for any number of workers, and
    behind any interruption.

    Args:
        files: at least batch_size of them.
        batch_size, shuffle, seed, drop_last: as of `EpochLoader`.
        workers: processes that decode; 0: the training process does it.
        augmentation: what is done to each picture; None: it is fitted as in evaluation.

    Raises:
        TypeError, ValueError: as `EpochLoader`. In use: InputError naming a damaged picture and the epoch, unless the
            files say that such are left out.
    """

    def __init__(
        self,
        files: ImageFiles,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        workers: int = 0,
        augmentation: PictureAugmentation | None = None,
    ) -> None:
        super().__init__(len(files), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
        self.files = files
        self._workers = Workers(_Batches(files, augmentation, seed), workers)

    def _order(self, epoch: int) -> Tensor:
        if self.shuffle:
            return self.files.shuffled(epoch_generator(self.seed, epoch))
        return super()._order(epoch)

    def _batches(self, epoch: int, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._workers([(epoch, part) for part in chosen]):
            for problem in batch.problems:
                if self.files.broken == "error":
                    raise InputError(
                        f"{problem} (found in epoch {epoch + 1}); mend it, or go on from the last checkpoint with "
                        "--broken skip, which leaves it out"
                    )
                warnings.warn(f"left out of its batch: {problem}", stacklevel=2)
            if len(batch.labels) == 0:
                raise InputError(f"all pictures of a batch are damaged, such as {batch.problems[0]}")
            yield batch.pixels, batch.labels


@dataclass(frozen=True)
class _Batch:
    pixels: Tensor
    labels: Tensor
    problems: tuple[str, ...]


class _Batches:
    """Makes a batch of an epoch's number and the numbers of its samples."""

    def __init__(self, files: ImageFiles, augmentation: PictureAugmentation | None, seed: int) -> None:
        self._files, self._augmentation, self._seed = files, augmentation, seed

    def __call__(self, key: tuple[int, Tensor]) -> _Batch:
        epoch, indices = key
        pixels = torch.empty((len(indices), *self._files.shape), dtype=torch.uint8)
        kept: list[int] = []
        problems: list[str] = []
        for index in indices.tolist():
            try:
                pixels[len(kept)] = self._image(epoch, index)
            except PictureError as error:
                problems.append(str(error))
            else:
                kept.append(index)
        return _Batch(pixels[: len(kept)], self._files.labels[kept], tuple(problems))

    def _image(self, epoch: int, index: int) -> Tensor:
        files = self._files
        if not self._augmentation:
            return files.fitted(index)
        picture = files.source.picture(index, files.shape[0], files.least)
        random = sample_random(self._seed, epoch, index)
        return to_pixels(self._augmentation(picture, *files.shape[1:], files.crop_share, random))
