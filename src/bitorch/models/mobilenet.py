"""MobileNetV2 (arXiv 1801.04381) for small images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import check_channels, check_counts

#: Expansion, channels at width 16, blocks and stride of each stage.
_STAGES = ((1, 16, 1, 1), (4, 24, 2, 1), (4, 40, 2, 2), (4, 64, 2, 2))
_HEAD_CHANNELS = 160


class MobileNetV2(nn.Module):
    """A 3×3 stem of stride 2, four stages of inverted residual blocks, a 1×1 head and a linear classifier.

    22 convolutions, 7 of them depthwise, and 100 thousand parameters. A block expands the channels by a 1×1
    convolution, convolves each by itself, and projects back without an activation, so that what the next block reads is
    negative in part: a clip at 0 and 1 loses it, and at few bits the net needs learned ranges (`LowBitConfig.range`).

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the stem and the first stage; the others have proportionally more.

    Shapes: float [B, in_channels, H, W] (28×28 or 32×32) to logits [B, num_classes].

    Raises:
        ValueError: a count below 1; in forward, images of another shape.
        TypeError: a count that is no int.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes, width=width)
        self.in_channels = in_channels
        channels = width
        self.stem = nn.Sequential(*_norm_relu6(in_channels, channels, 3, stride=2))
        blocks: list[nn.Module] = []
        for expansion, relative, count, stride in _STAGES:
            outputs = max(1, relative * width // 16)
            for index in range(count):
                blocks.append(_Block(channels, outputs, expansion, stride if index == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        head = max(1, _HEAD_CHANNELS * width // 16)
        self.head = nn.Sequential(*_norm_relu6(channels, head, 1))
        self.classifier = nn.Linear(head, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, "MobileNetV2", self.in_channels)
        x = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


class _Block(nn.Module):
    """Expand, convolve depthwise, project: [B, C, H, W] to [B, C', ⌈H/stride⌉, ⌈W/stride⌉], plus x if they agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        expand = _norm_relu6(in_channels, hidden, 1) if expansion > 1 else []
        self.body = nn.Sequential(
            *expand,
            *_norm_relu6(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.has_shortcut else out


def _norm_relu6(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return convolution, batch norm and ReLU6."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    ]
