"""Images in memory brought to another size or number of channels, as pictures are."""

from __future__ import annotations

import dataclasses

from .image_files import ImageFiles, in_memory
from .images import Dataset, Images
from .options import DataOptions


def in_shape(data: Dataset[Images], options: DataOptions) -> Dataset[Images]:
    """Return a data set of `Images` with the size and the channels that the options ask for.

    Raises:
        ValueError: channels of images that have other than 1 or 3.
    """
    channels, height, width = data.input_shape
    size = (options.image_size, options.image_size) if options.image_size else (height, width)
    shape = (channels if options.channels == "auto" else int(options.channels), *size)
    if shape == data.input_shape and options.crop_share == 1:
        return data
    return dataclasses.replace(
        data, train=_reshaped(data.train, shape, options), test=_reshaped(data.test, shape, options)
    )


def _reshaped(split: Images, shape: tuple[int, int, int], options: DataOptions) -> Images:
    files = dataclasses.replace(ImageFiles.of(split), shape=shape, crop_share=options.crop_share)
    images = in_memory(files, options.workers, "resizing images")
    assert isinstance(images, Images)  # as they are in no shards
    return images
