"""What the architectures share: the convolution block and the checks of arguments and inputs."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn


class Sequence(nn.Module):
    """A net of `layers` one behind the other, for images of one size; a subclass makes the layers.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.

    Shapes: float [B, in_channels, image_size, image_size] to logits [B, num_classes].

    Raises:
        ValueError: a count below 1; in forward, images of another shape. TypeError: a count that is no int.
    """

    image_size: ClassVar[int]
    layers: nn.Sequential

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes)
        self.in_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, type(self).__name__, self.in_channels, self.image_size)
        logits: Tensor = self.layers(x)
        return logits


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    padding: int = 0,
    pool: bool = False,
    bias: bool = False,
    bn_eps: float = 1e-5,
) -> list[nn.Module]:
    """Return convolution, batch norm, 2×2 max-pooling if asked for, ReLU, to be put in one flat nn.Sequential.

    The ReLU comes last, so that `bitorch.quantize_` finds it in front of the layer that clips its input anyway.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=bias),
        nn.BatchNorm2d(out_channels, eps=bn_eps),
    ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.ReLU())
    return layers


def check_counts(**counts: int) -> None:
    """Raise TypeError or ValueError unless every argument is an int of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_width(width: float, channels: int) -> None:
    """Raise TypeError or ValueError unless a factor is finite and leaves at least one of so many channels."""
    if isinstance(width, bool) or not isinstance(width, (int, float)):
        raise TypeError(f"width must be a number, got {width!r}")
    if not math.isfinite(width) or round(channels * width) < 1:
        raise ValueError(f"width must be finite and leave at least one of {channels} channels, got {width}")


def check_input(x: Tensor, net: str, in_channels: int, image_size: int) -> None:
    """Raise ValueError unless x is [B, in_channels, image_size, image_size]. Reads the shape only."""
    expected = (in_channels, image_size, image_size)
    if x.dim() != 4 or tuple(x.shape[1:]) != expected:
        raise ValueError(
            f"{net} takes images of shape [batch, {in_channels}, {image_size}, {image_size}], got {list(x.shape)}; "
            "resize or pad the images, or build the net with other in_channels"
        )


def check_channels(x: Tensor, net: str, in_channels: int) -> None:
    """Raise ValueError unless x is [B, in_channels, H, W], of any height and width. Reads the shape only."""
    if x.dim() != 4 or x.shape[1] != in_channels:
        raise ValueError(
            f"{net} takes images of shape [batch, {in_channels}, height, width], got {list(x.shape)}; "
            "resize or pad the images to one size, or build the net with other in_channels"
        )
