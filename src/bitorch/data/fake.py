"""Made-up images, to try a setting with before the real ones are there."""

from __future__ import annotations

import torch
from torch import Tensor

from .images import Dataset, Images
from .options import DataOptions

_SIZE = 32
_TEST_SHARE = 5  # one in so many
_MOST_BYTES = 1 << 33
_AT_ONCE = 256


def fake(options: DataOptions) -> Dataset[Images]:
    """Return noise on a pattern that is each class's own: the same images for the same options, and easy to learn.

    Of `options.fake` images one in five is to test. They are 32×32 in RGB, if the options do not say otherwise.

    Raises:
        ValueError: images that take more than 8 GiB.
    """
    count, classes = options.fake
    size = options.image_size if options.image_size else _SIZE
    channels = 3 if options.channels == "auto" else int(options.channels)
    if count * channels * size * size > _MOST_BYTES:
        raise ValueError(f"fake: {count} images of {channels}×{size}×{size} take more than {_MOST_BYTES >> 30} GiB")
    generator = torch.Generator().manual_seed(1)
    patterns = _bytes(generator, classes, channels, size, size)
    held_out = max(count // _TEST_SHARE, classes)
    train, test = (_images(n, patterns, generator) for n in (count - held_out, held_out))
    return Dataset("fake", train, test)


def _images(count: int, patterns: Tensor, generator: torch.Generator) -> Images:
    labels = torch.arange(count) % len(patterns)
    images = torch.empty((count, *patterns.shape[1:]), dtype=torch.uint8)
    for part in torch.arange(count).split(_AT_ONCE):
        noise = _bytes(generator, len(part), *patterns.shape[1:])
        images[part] = patterns[labels[part]] // 2 + noise // 2
    return Images(images, labels, len(patterns))


def _bytes(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
