"""Images made larger by a border of zeros."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F

from .images import Dataset, Images


def pad_to_square(dataset: Dataset[Images], pad_to: int) -> Dataset[Images]:
    """Return the data set with all images padded with zeros to [C, pad_to, pad_to].

    The image is in the middle; where the border is odd, its larger half is below and to the right.

    Raises:
        TypeError: pad_to is no int.
        ValueError: pad_to is less than the images' height or width.
    """
    if isinstance(pad_to, bool) or not isinstance(pad_to, int):
        raise TypeError(f"pad_to must be an int, got {pad_to!r}")
    height, width = dataset.input_shape[1:]
    if pad_to < max(height, width):
        raise ValueError(
            f"pad_to must be 0, or at least {max(height, width)}, because the images of {dataset.name} are "
            f"{height}×{width}, got {pad_to}"
        )
    top, left = (pad_to - height) // 2, (pad_to - width) // 2
    border = (left, pad_to - width - left, top, pad_to - height - top)

    def pad(images: Images) -> Images:
        return dataclasses.replace(images, images=F.pad(images.images, border))

    return dataclasses.replace(dataset, train=pad(dataset.train), test=pad(dataset.test))
