"""Mean and standard deviation of pixels, and the first layer of a model that takes them off."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Normalization:
    """(x − mean)/std of images x = pixels/255, channel by channel.

    Args:
        mean: one number for each channel.
        std: as many, each above 0.

    Raises:
        TypeError, ValueError: no numbers, numbers that are not finite, lengths that differ, a std that is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not isinstance(values, tuple) or not all(type(value) in (int, float) for value in values):
                raise TypeError(f"{name} must be a tuple of numbers, got {values!r}")
            if not values or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must be finite numbers, one for each channel, got {values}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must have as many numbers, got {len(self.mean)} and {len(self.std)}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")

    @property
    def channels(self) -> int:
        """How many channels it is for."""
        return len(self.mean)


#: Of ImageNet's training images, in RGB, as networks of torchvision and timm are trained.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Normalize(nn.Module):
    """(x − mean)/std, of float x [B, C, H, W]. Its numbers are no part of a state dict: they belong to the data.

    `bitorch.deploy(..., pixels=True)` makes one look-up of it, from a pixel of each channel to the float, or to the
    code of a low-bit first layer, so borders of a convolution are padded as in training, and nothing is rounded anew.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        for name, values in (("mean", normalization.mean), ("std", normalization.std)):
            self.register_buffer(name, _over_pixels(values), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized images."""
        return (x - self.mean) / self.std


def normalized(model: nn.Module, normalization: Normalization | None) -> nn.Module:
    """Return a model of images in [0, 1] whose first layer normalizes them for this one; without any, the model itself.

    Its parts are called `normalize` and `net`.
    """
    if normalization is None:
        return model
    return nn.Sequential(OrderedDict(normalize=Normalize(normalization), net=model))


def _over_pixels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
