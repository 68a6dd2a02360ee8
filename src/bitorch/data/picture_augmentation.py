"""Which random changes are made to training pictures."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from .options import LARGEST_MAGNITUDE

if TYPE_CHECKING:
    from PIL import Image

_MOST_OPERATIONS = 14


def sample_random(seed: int, epoch: int, index: int) -> Random:
    """Return a generator that depends on seed, epoch and the sample's number alone."""
    digest = hashlib.blake2b(f"{seed} {epoch} {index}".encode(), digest_size=8).digest()
    return Random(int.from_bytes(digest, "little"))


@dataclass(frozen=True)
class PictureAugmentation:
    """What is done to a training picture: random resized crop, RandAugment, colour jitter, in this order.

    Args:
        crop_scale: least and largest share of the picture's area that a crop has, in (0, 1], of a ratio of its sides
            from 3/4 to 4/3 (uniform in its logarithm); it is resized to the net's size. None: all of the picture.
        randaugment: operations for each picture, and their magnitude from 0 to 30 (RandAugment, Cubuk et al. 2020:
            drawn from 14, with the ranges that torchvision gives them). None: off.
        color_jitter: how far brightness, contrast, saturation and hue change: factors are drawn from [1 − v, 1 + v],
            not below 0; of the hue, v in [0, ½] is a share of the circle. All 0: off.

    Raises:
        ValueError: a number out of its range.
    """

    crop_scale: tuple[float, float] | None = None
    randaugment: tuple[int, int] | None = None
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must be two rising shares above 0 and at most 1, got {self.crop_scale}")
        if self.randaugment is not None:
            count, magnitude = self.randaugment
            if not (1 <= count <= _MOST_OPERATIONS and 0 <= magnitude <= LARGEST_MAGNITUDE):
                raise ValueError(
                    f"randaugment must be 1 to {_MOST_OPERATIONS} operations and a magnitude from 0 to "
                    f"{LARGEST_MAGNITUDE}, got {self.randaugment}"
                )
        *factors, hue = self.color_jitter
        if not (all(0 <= value < math.inf for value in factors) and 0 <= hue <= 0.5):
            raise ValueError(
                "color_jitter must be brightness, contrast, saturation of at least 0 and a hue from 0 to 0.5, got "
                f"{self.color_jitter}"
            )

    def __bool__(self) -> bool:
        return self.crop_scale is not None or self.randaugment is not None or any(self.color_jitter)

    def __call__(self, picture: Image.Image, height: int, width: int, crop_share: float, random: Random) -> Image.Image:
        """Return a changed picture of height × width; a picture that is not cropped at random is fitted."""
        from . import picture_changes as changes  # needs Pillow, which settings, that hold one of these, do not

        if self.crop_scale is None:
            picture = changes.fit(picture, height, width, crop_share)
        else:
            picture = changes.random_resized_crop(picture, height, width, self.crop_scale, random)
        if self.randaugment is not None:
            picture = changes.rand_augment(picture, *self.randaugment, random)
        return changes.color_jitter(picture, self.color_jitter, random) if any(self.color_jitter) else picture
