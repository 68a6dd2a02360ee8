"""The residual net for CIFAR (arXiv 1512.03385, section 4.2), in the order that DoReFa-Net needs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import check_counts

_STAGES = 3
_BLOCKS_PER_STAGE = 3


class ResNet20(nn.Module):
    """A stem, three stages of three residual blocks, and a linear classifier.

    19 convolutions and 270 thousand parameters. Blocks are pre-activated: batch norm and ReLU stand in front of each
    convolution, so that its input can be clipped and quantized while the shortcut carries float sums. Where size and
    channels change, the shortcut halves the image by average pooling and fills up with zero channels.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the first stage; the second has twice, the third four times as many.

    Shapes: float [B, in_channels, H, W] in [0, 1], H and W multiples of 4 (CIFAR: 32), to logits [B, num_classes].

    Raises:
        ValueError: a count below 1; in forward, images of another shape.
        TypeError: a count that is no int.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes, width=width)
        self.in_channels = in_channels
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        blocks = []
        channels = width
        for stage in range(_STAGES):
            for block in range(_BLOCKS_PER_STAGE):
                is_first_of_later_stage = stage > 0 and block == 0
                blocks.append(_Block(channels, width * 2**stage, halve=is_first_of_later_stage))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.in_channels)
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


class _Block(nn.Module):
    """Two convolutions, each behind batch norm and ReLU, plus the shortcut: [B, C, H, W] to [B, C', H', W']."""

    def __init__(self, in_channels: int, out_channels: int, *, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.new_channels = out_channels - in_channels
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 3, stride=2 if halve else 1, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.avg_pool2d(x, 2) if self.halve else x
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))  # the channel axis, at its end
        out: Tensor = shortcut + self.body(x)
        return out


def _check_images(x: Tensor, in_channels: int) -> None:
    """Raise ValueError unless x is [B, in_channels, H, W] with sides that two halvings divide. Reads the shape only."""
    is_valid = x.dim() == 4 and x.shape[1] == in_channels and all(s >= 4 and s % 4 == 0 for s in x.shape[2:])
    if not is_valid:
        raise ValueError(
            f"ResNet20 takes images of shape [batch, {in_channels}, height, width], height and width multiples of 4, "
            f"got {list(x.shape)}; resize or pad the images, or build the net with other in_channels"
        )
