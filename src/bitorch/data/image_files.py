"""Labelled pictures that are read when they are wanted."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .images import Images, check_labels
from .options import Broken
from .pictures import PictureError, fit, to_pixels
from .sources import FileSource, MemorySource, Source, TensorSource, bytes_of
from .workers import in_chunks

#: Share of the memory that is free now, which decoded pictures may take.
CACHE_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Pictures with one label each, decoded and fitted one by one.

    Args:
        source: of the pictures.
        labels: int64 [N], each in 0…num_classes-1.
        num_classes: at least 2.
        shape: [C, H, W] that every picture is brought to, C being 1 or 3.
        crop_share: share of the shorter side that is kept when a picture is fitted.
        broken: what to do where a picture turns out to be damaged: an error, or leave it out of its batch.
        least: height and width at which decoding may stop, 0: none (see `read_picture`).
        shard_of: int64 [N], of samples in shards the number of each one's shard; None: they are single files.
        shuffle_buffer: of shards, how many samples the next one is drawn from in training.

    Raises:
        ValueError: lengths that differ, labels out of range.
    """

    source: Source
    labels: Tensor
    num_classes: int
    shape: tuple[int, int, int]
    crop_share: float = 1.0
    broken: Broken = "error"
    least: int = 0
    shard_of: Tensor | None = None
    shuffle_buffer: int = 1

    def __post_init__(self) -> None:
        if len(self.source) != len(self.labels):
            raise ValueError(f"there must be one label for each picture, got {len(self.labels)} for {len(self.source)}")
        check_labels(self.labels, self.num_classes)

    def __len__(self) -> int:
        return len(self.labels)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Return an order of all samples, int64 [N], that depends on the generator's state alone.

        Of shards it is the order in which a buffer gives samples that is filled with one shard after the other, in
        random order, and of which each time a random one is taken: files are read nearly from front to back. As it is
        the order alone that is kept, there is no buffer to keep when a run is stopped.
        """
        if self.shard_of is None:
            return torch.randperm(len(self), generator=generator)
        rank = torch.randperm(int(self.shard_of.max()) + 1, generator=generator)
        order = torch.argsort(rank[self.shard_of], stable=True).tolist()
        size = min(self.shuffle_buffer, len(order))
        buffer, drawn = order[:size], torch.randint(size, (len(order) - size,), generator=generator).tolist()
        result = []
        for place, sample in zip(drawn, order[size:], strict=True):
            result.append(buffer[place])
            buffer[place] = sample
        rest = torch.randperm(size, generator=generator).tolist()
        return torch.tensor(result + [buffer[place] for place in rest], dtype=torch.int64)

    def fitted(self, index: int) -> Tensor:
        """Return a picture as it is evaluated, uint8 [C, H, W]; PictureError with its name if it is damaged."""
        picture = self.source.picture(index, self.shape[0], self.least)
        return to_pixels(fit(picture, *self.shape[1:], self.crop_share))

    @classmethod
    def of(cls, images: Images) -> ImageFiles:
        """Return images in memory as pictures.

        Raises:
            ValueError: images of other than 1 or 3 channels.
        """
        if images.shape[0] not in (1, 3):
            raise ValueError(f"pictures have 1 or 3 channels, and these images have {images.shape[0]}")
        return cls(TensorSource(images), images.labels.cpu(), images.num_classes, images.shape)


def fingerprint(splits: Sequence[ImageFiles], kept: Sequence[int]) -> str:
    """Return what tells the files of these splits, their order and labels from others.

    Args:
        splits: of a data set.
        kept: how many samples of each are left where broken ones were left out.
    """
    digest = hashlib.sha256()
    for split, count in zip(splits, kept, strict=True):
        digest.update(b"%d " % count)
        if isinstance(split.source, FileSource):
            digest.update(split.source.identity())
        digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()


def in_memory(files: ImageFiles, workers: int, doing: str) -> Images | ImageFiles:
    """Return the fitted pictures as tensors in memory; broken ones are left out or an error, as the files say."""
    pixels = torch.empty((len(files), *files.shape), dtype=torch.uint8)
    kept: list[int] = []
    for part in in_chunks(_Fitted(files), len(files), workers, doing):
        for index, image in part:
            if isinstance(image, str):
                _broken(files, image)
            else:
                pixels[len(kept)] = image
                kept.append(index)
    images = Images(pixels[: len(kept)], files.labels[kept], files.num_classes)
    if files.shard_of is None:
        return images
    return replace(ImageFiles.of(images), shard_of=files.shard_of[kept], shuffle_buffer=files.shuffle_buffer)


def decoded_in_memory(files: ImageFiles, sizes: Tensor, workers: int, doing: str) -> ImageFiles:
    """Return the same pictures, decoded in memory at their own sizes.

    Args:
        sizes: int64 [N, 2], heights and widths.
    """
    channels = files.shape[0]
    pixels = torch.empty(int(sizes.prod(1).sum()) * channels, dtype=torch.uint8).share_memory_()
    kept: list[int] = []
    end = 0
    for part in in_chunks(_Decoded(files), len(files), workers, doing):
        for index, image in part:
            if isinstance(image, str):
                _broken(files, image)
            else:
                pixels[end : end + len(image)] = image
                end += len(image)
                kept.append(index)
    names = files.source.chosen(torch.tensor(kept).numpy()) if isinstance(files.source, FileSource) else files.source
    source = MemorySource(pixels[:end], sizes[kept], channels, names)
    shard_of = None if files.shard_of is None else files.shard_of[kept]
    return replace(files, source=source, labels=files.labels[kept], shard_of=shard_of)


def free_bytes() -> int:
    """Return the memory that is free now; of a container, what its limit leaves."""
    free = _available()
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # no better known


def _broken(files: ImageFiles, problem: str) -> None:
    if files.broken == "error":
        raise ValueError(f"{problem}; mend or remove it, or leave broken pictures out with --broken skip")
    warnings.warn(f"left out: {problem}", stacklevel=3)


class _Fitted:
    """Fits a range of pictures; of a damaged one the result is what is wrong with it."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __call__(self, indices: range) -> list[tuple[int, Tensor | str]]:
        return [(index, self._one(index)) for index in indices]

    def _one(self, index: int) -> Tensor | str:
        try:
            return self._image(index)
        except PictureError as error:
            return str(error)

    def _image(self, index: int) -> Tensor:
        return self._files.fitted(index)


class _Decoded(_Fitted):
    """Decodes a range of pictures at their own sizes."""

    def _image(self, index: int) -> Tensor:
        return bytes_of([self._files.source.picture(index, self._files.shape[0])])
