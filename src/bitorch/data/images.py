"""Labelled images in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
        if len(self.labels):
            low, high = (int(label) for label in self.labels.aminmax())
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"labels must be in 0…{self.num_classes - 1} (num_classes - 1), got {low}…{high}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named pair of training and test images, of one image shape and one number of classes.

    Raises:
        ValueError: training and test images differ in shape or number of classes.
    """

    name: str
    train: Images
    test: Images

    def __post_init__(self) -> None:
        shapes = [tuple(split.images.shape[1:]) for split in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{self.name}: training images are {shapes[0]} [C, H, W], but test images {shapes[1]}")
        classes = [split.num_classes for split in (self.train, self.test)]
        if classes[0] != classes[1]:
            raise ValueError(f"{self.name}: {classes[0]} classes in training, but {classes[1]} in test")


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
