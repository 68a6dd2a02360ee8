"""Random changes to whole batches, different for each image, on the batch's device.

All draw from torch's global generator of that device, so `torch.manual_seed` reproduces them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def random_shift(x: Tensor, pixels: int) -> Tensor:
    """Shift each image by up to ±pixels rows and columns, uniformly; zeros come in.

    Args:
        x: float [B, C, H, W].
        pixels: 0 (x is returned as it is) to less than H and W.

    Raises:
        TypeError, ValueError: x of another dtype or rank, pixels that is no int or out of range.
    """
    _check_batch(x)
    _check_pixels("pixels", pixels)
    batch, channels, height, width = x.shape
    if pixels >= min(height, width):
        raise ValueError(f"pixels must be less than the image's height and width {height}×{width}, got {pixels}")
    if pixels == 0:
        return x
    padded = F.pad(x, (pixels, pixels, pixels, pixels))
    corner = torch.randint(2 * pixels + 1, (2, batch, 1), device=x.device)
    rows = corner[0] + torch.arange(height, device=x.device)  # [B, H]
    columns = corner[1] + torch.arange(width, device=x.device)  # [B, W]
    image = torch.arange(batch, device=x.device)
    channel = torch.arange(channels, device=x.device)
    return padded[image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def random_pad_crop(x: Tensor, padding: int) -> Tensor:
    """Pad each image with zeros and crop it at a random place: `random_shift` by the name that CIFAR recipes use."""
    return random_shift(x, padding)


def random_flip(x: Tensor) -> Tensor:
    """Mirror each image left to right with probability ½.

    Args:
        x: float [B, C, H, W].

    Raises:
        TypeError, ValueError: x of another dtype or rank.
    """
    _check_batch(x)
    is_flipped = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(is_flipped, x.flip(-1), x)


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training batch: shift or pad-and-crop, then flip. Called with, and returns, float [B, C, H, W].

    Args:
        shift: `random_shift` by up to so many pixels; 0 is off.
        flip: `random_flip`.
        pad_crop: `random_pad_crop` with such a padding; 0 is off. Not together with shift, which is the same operation.

    Raises:
        TypeError, ValueError: negative pixels, arguments of another type, both shift and pad_crop.
    """

    shift: int = 0
    flip: bool = False
    pad_crop: int = 0

    def __post_init__(self) -> None:
        _check_pixels("shift", self.shift)
        _check_pixels("pad_crop", self.pad_crop)
        if not isinstance(self.flip, bool):
            raise TypeError(f"flip must be a bool, got {self.flip!r}")
        if self.shift and self.pad_crop:
            raise ValueError(
                f"shift={self.shift} and pad_crop={self.pad_crop} are the same operation; set one of them to 0"
            )

    def __call__(self, x: Tensor) -> Tensor:
        if self.shift:
            x = random_shift(x, self.shift)
        if self.pad_crop:
            x = random_pad_crop(x, self.pad_crop)
        if self.flip:
            x = random_flip(x)
        return x


def _check_batch(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x must be a float tensor (see to_float), got {x.dtype}")
    if x.dim() != 4:
        raise ValueError(f"x must have shape [B, C, H, W], got {list(x.shape)}")


def _check_pixels(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
