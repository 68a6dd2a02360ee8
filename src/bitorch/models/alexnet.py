"""AlexNet with batch norm, as DoReFa-Net (arXiv 1606.06160) trains it on ImageNet."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from .blocks import Sequence, check_width

#: As in the SVHN nets.
_BN_EPS = 1e-4


class AlexNet(Sequence):
    """Five convolutions and three linear layers, a batch norm behind each but the last, on 224×224 images.

    Sizes are those of DoReFa-Net: a first convolution of 12×12 and no pooling behind it, so that the second one reads
    54×54 pixels. The second, fourth and fifth have two groups. 61 million parameters and 1.9 billion
    multiply-accumulates per image at width 1 and with 1000 classes.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: factor on the number of channels and hidden units, which stay even.

    Shapes: float [B, in_channels, 224, 224] to logits [B, num_classes].

    Raises:
        ValueError: a count below 1, a width that leaves a layer without channels; in forward, images of another shape.
        TypeError: a count that is no int, a width that is no number.
    """

    image_size: ClassVar[int] = 224

    def __init__(self, in_channels: int = 3, num_classes: int = 1000, width: float = 1.0) -> None:
        super().__init__(in_channels, num_classes)
        check_width(width, 48)
        c96, c256, c384, c4096 = (2 * round(count * width / 2) for count in (96, 256, 384, 4096))
        self.layers = nn.Sequential(
            *_convolution(in_channels, c96, 12, stride=4),  # 224 -> 54
            *_convolution(c96, c256, 5, padding=2, groups=2, pool=nn.MaxPool2d(3, 2, padding=1)),  # 54 -> 27
            *_convolution(c256, c384, 3, padding=1, pool=nn.MaxPool2d(3, 2, padding=1)),  # 27 -> 14
            *_convolution(c384, c384, 3, padding=1, groups=2),
            *_convolution(c384, c256, 3, padding=1, groups=2, pool=nn.MaxPool2d(3, 2)),  # 14 -> 6
            nn.Flatten(),
            *_linear(c256 * 6 * 6, c4096),
            *_linear(c4096, c4096),
            nn.Linear(c4096, num_classes),
        )


def _convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    pool: nn.Module | None = None,
) -> list[nn.Module]:
    """Return convolution, batch norm, the pooling if there is one, ReLU, which comes last as in `conv_block`."""
    pools = [] if pool is None else [pool]
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=_BN_EPS),
        *pools,
        nn.ReLU(),
    ]


def _linear(in_features: int, out_features: int) -> list[nn.Module]:
    return [
        nn.Linear(in_features, out_features, bias=False),
        nn.BatchNorm1d(out_features, eps=_BN_EPS),
        nn.ReLU(),
    ]
