"""Labelled images in memory, and what a data set is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol

import torch
from torch import Tensor
from typing_extensions import TypeVar

from .normalization import Normalization


class Split(Protocol):
    """What every part of a data set can say of itself: how many samples of which shape and how many classes."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one input, [C, H, W] of an image; None where inputs are no single tensor."""

    @property
    def num_classes(self) -> int | None:
        """How many classes the labels are of, None where they are none, or nobody has said it."""

    def __len__(self) -> int:
        """Return the number of samples."""


SplitT = TypeVar("SplitT", bound=Split, default=Split, covariant=True)


@dataclass(frozen=True, eq=False)
class Images:
    """Images with one label each.

    Args:
        images: uint8 [N, C, H, W].
        labels: int64 [N], each in 0…num_classes-1, on the same device.
        num_classes: at least 2.

    Raises:
        TypeError: wrong dtypes or types.
        ValueError: wrong shapes, lengths that differ, labels out of range.
    """

    images: Tensor
    labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        _check_tensor("images", self.images, torch.uint8, "[N, C, H, W]", 4)
        _check_tensor("labels", self.labels, torch.int64, "[N]", 1)
        if isinstance(self.num_classes, bool) or not isinstance(self.num_classes, int):
            raise TypeError(f"num_classes must be an int, got {self.num_classes!r}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if 0 in self.images.shape[1:]:
            raise ValueError(f"images must have at least one channel, row and column, got {list(self.images.shape)}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"there must be one label for each image, got {len(self.images)} and {len(self.labels)}")
        if self.images.device != self.labels.device:
            raise ValueError(f"images are on {self.images.device}, but labels on {self.labels.device}")
        check_labels(self.labels, self.num_classes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, [C, H, W]."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class Dataset(Generic[SplitT]):
    """A named pair of training and test images, of one image shape and one number of classes.

    Args:
        name: of the data set.
        train, test: its parts.
        class_names: one for each class; None where nobody has said them.
        normalization: what the model takes off the images first; None for pixels/255 as they are.
        fingerprint: what tells its samples and their order from others; None where the name says it.
        notes: what was found on the way that its user should know, a line each.

    Raises:
        ValueError: training and test images differ in shape or number of classes; class names or a normalization for
            another number of classes or channels.
    """

    name: str
    train: SplitT
    test: SplitT
    class_names: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = [split.shape for split in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{self.name}: training images are {shapes[0]} [C, H, W], but test images {shapes[1]}")
        classes = [split.num_classes for split in (self.train, self.test)]
        if classes[0] != classes[1]:
            raise ValueError(f"{self.name}: {classes[0]} classes in training, but {classes[1]} in test")
        if self.class_names is not None and classes[0] is not None and len(self.class_names) != classes[0]:
            raise ValueError(f"{self.name}: {len(self.class_names)} class names for {classes[0]} classes")
        if self.normalization is not None and shapes[0] is not None and self.normalization.channels != shapes[0][0]:
            raise ValueError(
                f"{self.name}: mean and std have {self.normalization.channels} numbers, but images have "
                f"{shapes[0][0]} channels; give as many"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, [C, H, W] of an image. ValueError where inputs are no single tensor."""
        if self.train.shape is None:
            raise ValueError(f"inputs of {self.name} are no single tensor; say input_shape where the data is made")
        return self.train.shape

    @property
    def num_classes(self) -> int:
        """How many classes the labels are of. ValueError where nobody has said it."""
        if self.train.num_classes is None:
            raise ValueError(
                f"{self.name} does not say how many classes its labels are of; say num_classes or class_names where "
                "the data is made"
            )
        return self.train.num_classes


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise a ValueError unless labels [N] are all in 0…num_classes-1."""
    if len(labels):
        low, high = (int(label) for label in labels.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"labels must be in 0…{num_classes - 1} (num_classes - 1), got {low}…{high}")


def to_float(images: Tensor) -> Tensor:
    """Return uint8 pixels of any shape as float32 in [0, 1].

    The value of pixel q is the float32 nearest to q/255, so an 8-bit input quantizer gives it back bit for bit.

    Raises:
        TypeError: images that are not uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    # By a tensor: for a Python scalar CUDA may multiply by the rounded reciprocal, off by one ulp for some pixels.
    return images.to(torch.float32) / torch.full((), 255.0, device=images.device)


def _check_tensor(name: str, value: Tensor, dtype: torch.dtype, shape: str, rank: int) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {value.dtype}")
    if value.dim() != rank:
        raise ValueError(f"{name} must have shape {shape}, got {list(value.shape)}")
