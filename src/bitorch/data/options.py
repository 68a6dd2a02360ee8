"""How a data set is read: every choice that there is, with its rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .normalization import IMAGENET, Normalization

Channels = Literal["auto", "1", "3"]
Broken = Literal["error", "skip"]
#: Magnitudes of RandAugment: 0 to 30.
LARGEST_MAGNITUDE = 30
#: A height and width that no net here takes.
_MOST_PIXELS = 4096


@dataclass(frozen=True)
class DataOptions:
    """How `load` reads a data set. What a format has no use for, it refuses.

    Args:
        pad_to: height and width that images in memory are padded to with zeros, the image in the middle; 0: off.
        image_size: height and width that pictures are brought to: the shorter side is resized, the middle cut out;
            0: as they are, which must be all alike.
        channels: "1": grey, "3": RGB, "auto": grey where all training pictures are.
        crop_share: share of the shorter side that is kept when pictures are fitted, above 0 and at most 1.
        val_share: share of each class that is kept for testing, where a folder has no test pictures.
        split_seed: which those are.
        mean, std: of pixels/255, a number for each channel, that the model normalizes by; mean "imagenet": those of
            ImageNet. None: not normalized.
        workers: processes that decode pictures.
        cache: "auto": keep decoded pictures in memory where they take less than half of what is free; "off": never.
        broken: damaged pictures are an "error", or "skip": left out.
        keeps_size: training pictures are cropped at random, and so are kept at their own size.
        extra: SVHN's extra images are training images, too.
        shards, val_shards: tar files of WebDataset: "train-{0000..0009}.tar", below the folder.
        shuffle_buffer: of WebDataset: samples of which the next one is drawn, in random order of the shards.
        fake: images and classes of fake data.
        class_names: what the classes of a folder of pictures are, in their order; None: its folders' names.
        processes: that train on this machine together; they share its memory.

    Raises:
        ValueError: a number out of its range, mean without std or the other way round.
    """

    pad_to: int = 0
    image_size: int = 0
    channels: Channels = "auto"
    crop_share: float = 1.0
    val_share: float = 0.2
    split_seed: int = 0
    mean: tuple[float, ...] | Literal["imagenet"] | None = None
    std: tuple[float, ...] | None = None
    workers: int = 2
    cache: Literal["auto", "off"] = "auto"
    broken: Broken = "error"
    keeps_size: bool = False
    extra: bool = False
    shards: str | None = None
    val_shards: str | None = None
    shuffle_buffer: int = 10_000
    fake: tuple[int, int] = (1000, 10)
    class_names: tuple[str, ...] | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        if self.image_size != 0:
            _check(
                "image_size", self.image_size, 1 <= self.image_size <= _MOST_PIXELS, f"0 or from 1 to {_MOST_PIXELS}"
            )
        _check("crop_share", self.crop_share, 0 < self.crop_share <= 1, "above 0 and at most 1")
        _check("val_share", self.val_share, 0 < self.val_share < 1, "above 0 and below 1")
        _check("workers", self.workers, 0 <= self.workers <= 256, "from 0 to 256")
        _check("shuffle_buffer", self.shuffle_buffer, self.shuffle_buffer >= 1, "at least 1")
        _check("fake", self.fake, self.fake[1] >= 2 and self.fake[0] >= 2 * self.fake[1],
               "images and classes, at least 2 classes and twice as many images")  # fmt: skip
        _ = self.normalization  # which checks itself

    @property
    def normalization(self) -> Normalization | None:
        """What images are normalized by."""
        if self.mean == "imagenet":
            return IMAGENET if self.std is None else Normalization(IMAGENET.mean, self.std)
        if self.mean is None and self.std is None:
            return None
        if self.mean is None or self.std is None:
            raise ValueError(f"mean and std belong together, got mean={self.mean} with std={self.std}")
        return Normalization(self.mean, self.std)


def _check(name: str, value: object, is_met: bool, rule: str) -> None:
    if not is_met:
        raise ValueError(f"{name} must be {rule}, got {value!r}")
