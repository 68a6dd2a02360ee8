"""Small nets for grey images, wide enough to train at 1-bit weights and 2-bit activations."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from .blocks import Sequence, check_width, conv_block


class _LeNet(Sequence):
    """What both nets share: the arguments, and what stands behind their convolutions."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__(in_channels, num_classes)
        c32, c64, c128 = _scaled(width, 32, 64, 128)
        convolutions, features = self._convolutions(c32, c64, c128)
        hidden = [nn.Linear(features, c128, bias=False), nn.BatchNorm1d(c128), nn.ReLU()]
        self.layers = nn.Sequential(*convolutions, nn.Flatten(), *hidden, nn.Linear(c128, num_classes))

    def _convolutions(self, c32: int, c64: int, c128: int) -> tuple[list[nn.Module], int]:
        """Return the convolutions, and how many numbers of an image they leave."""
        raise NotImplementedError(f"{type(self).__name__} does not define _convolutions(c32, c64, c128)")


class LeNet28(_LeNet):
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

    def _convolutions(self, c32: int, c64: int, c128: int) -> tuple[list[nn.Module], int]:
        layers = [
            *conv_block(self.in_channels, c32, 5, padding=2, pool=True),  # 28 -> 14
            *conv_block(c32, c32, 3, padding=1),
            *conv_block(c32, c64, 3, padding=1, pool=True),  # 14 -> 7
            *conv_block(c64, c64, 3, padding=1),
            *conv_block(c64, c64, 3),  # 7 -> 5
            *conv_block(c64, c128, 3),  # 5 -> 3
        ]
        return layers, c128 * 3 * 3


class LeNet8(_LeNet):
    """Three convolutions, a hidden linear layer and a linear classifier, for 8×8 images such as scikit-learn's digits.

    189 thousand parameters and 1.9 million multiply-accumulates per image at width 1. Arguments, errors: see LeNet28.

    Shapes: float [B, in_channels, 8, 8] in [0, 1] to logits [B, num_classes].
    """

    image_size: ClassVar[int] = 8

    def _convolutions(self, c32: int, c64: int, c128: int) -> tuple[list[nn.Module], int]:
        layers = [
            *conv_block(self.in_channels, c32, 3, padding=1),
            *conv_block(c32, c64, 3, padding=1, pool=True),  # 8 -> 4
            *conv_block(c64, c64, 3, padding=1),
        ]
        return layers, c64 * 4 * 4


def _scaled(width: float, *channels: int) -> list[int]:
    """Return the channels times width, rounded."""
    check_width(width, min(channels))
    return [round(count * width) for count in channels]
