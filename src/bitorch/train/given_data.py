"""Data that are passed in Python, in place of a data set with a name."""

from __future__ import annotations

from ..data import Dataset, Images


def as_dataset(data: Dataset | tuple[Images, Images]) -> Dataset:
    """Return the data set of what a user passes: one, or training and test images.

    Raises:
        TypeError: something else. ValueError: training and test images that differ in shape or number of classes.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Images) for part in data):
        train, test = data
        return Dataset("data", train, test)
    raise TypeError(
        "data must be a bitorch.data.Dataset or a pair of bitorch.data.Images, for training and test, got "
        f"{type(data).__name__}"
    )
