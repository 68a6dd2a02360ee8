"""The data set that comes with scikit-learn and needs no download."""

from __future__ import annotations

import torch

from .images import Dataset, Images

#: The split is part of the data set: it is the same in every run, whatever the training seed.
_SPLIT_SEED = 160606160
_TEST_IMAGES = 360
_LARGEST_PIXEL = 16


def digits() -> Dataset[Images]:
    """Return scikit-learn's handwritten digits: 8×8 grey images, 10 classes, 1437 to train and 360 to test.

    Pixels 0…16 are spread over 0…255. The split is stratified: each class has a fifth of its images in test, up to one.
    The same people wrote both parts.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn: pip install ".[train]" in a checkout of bitorch'
        ) from error

    source = load_digits()
    pixels = torch.from_numpy(source.images)  # float64 [1797, 8, 8]
    images = (pixels * 255 / _LARGEST_PIXEL).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(source.target).to(torch.int64)
    parts = train_test_split(
        range(len(labels)), test_size=_TEST_IMAGES, stratify=source.target, random_state=_SPLIT_SEED
    )
    train, test = (Images(images[part], labels[part], num_classes=10) for part in map(torch.tensor, parts))
    return Dataset("digits", train, test, tuple("0123456789"))
