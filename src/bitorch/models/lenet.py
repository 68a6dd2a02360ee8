"""Small nets for grey images, wide enough to train at 1-bit weights and 2-bit activations."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from .blocks import check_counts, check_input, conv_block


class LeNet28(nn.Module):
    """Six convolutions, a hidden linear layer and a linear classifier, for the MNIST family.

    326 thousand parameters and 9.6 million multiply-accumulates per image at width 1.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: factor on the number of channels and hidden units.

    Shapes: float [B, in_channels, 28, 28] in [0, 1] to logits [B, num_classes].

    Raises:
        ValueError: a count below 1, a width that leaves a layer without channels; in forward, images of another shape.
        TypeError: a count that is no int, a width that is no number.
    """

    image_size: ClassVar[int] = 28

    def __init__(self, in_channels: int = 1, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes)
        self.in_channels = in_channels
        c32, c64, c128 = _scaled(width, 32, 64, 128)
        self.layers = nn.Sequential(
            *conv_block(in_channels, c32, 5, padding=2, pool=True),  # 28 -> 14
            *conv_block(c32, c32, 3, padding=1),
            *conv_block(c32, c64, 3, padding=1, pool=True),  # 14 -> 7
            *conv_block(c64, c64, 3, padding=1),
            *conv_block(c64, c64, 3),  # 7 -> 5
            *conv_block(c64, c128, 3),  # 5 -> 3
            nn.Flatten(),
            *_hidden_block(c128 * 3 * 3, c128),
            nn.Linear(c128, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, type(self).__name__, self.in_channels, self.image_size)
        logits: Tensor = self.layers(x)
        return logits


class LeNet8(nn.Module):
    """Three convolutions, a hidden linear layer and a linear classifier, for 8×8 images such as scikit-learn's digits.

    189 thousand parameters and 1.9 million multiply-accumulates per image at width 1.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: factor on the number of channels and hidden units.

    Shapes: float [B, in_channels, 8, 8] in [0, 1] to logits [B, num_classes].

    Raises:
        ValueError: a count below 1, a width that leaves a layer without channels; in forward, images of another shape.
        TypeError: a count that is no int, a width that is no number.
    """

    image_size: ClassVar[int] = 8

    def __init__(self, in_channels: int = 1, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes)
        self.in_channels = in_channels
        c32, c64, c128 = _scaled(width, 32, 64, 128)
        self.layers = nn.Sequential(
            *conv_block(in_channels, c32, 3, padding=1),
            *conv_block(c32, c64, 3, padding=1, pool=True),  # 8 -> 4
            *conv_block(c64, c64, 3, padding=1),
            nn.Flatten(),
            *_hidden_block(c64 * 4 * 4, c128),
            nn.Linear(c128, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, type(self).__name__, self.in_channels, self.image_size)
        logits: Tensor = self.layers(x)
        return logits


def _hidden_block(in_features: int, out_features: int) -> list[nn.Module]:
    return [nn.Linear(in_features, out_features, bias=False), nn.BatchNorm1d(out_features), nn.ReLU()]


def _scaled(width: float, *channels: int) -> list[int]:
    """Return the channels times width, rounded."""
    if isinstance(width, bool) or not isinstance(width, (int, float)):
        raise TypeError(f"width must be a number, got {width!r}")
    if not math.isfinite(width) or round(min(channels) * width) < 1:
        raise ValueError(f"width must be finite and leave at least one of {min(channels)} channels, got {width}")
    return [round(count * width) for count in channels]
