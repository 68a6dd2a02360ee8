"""The residual net for ImageNet (arXiv 1512.03385, table 1), under the names that its checkpoints have everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import check_channels, check_counts

_BLOCKS_PER_STAGE = 2


class ResNet18(nn.Module):
    """A 7×7 stem with max-pooling, four stages of two residual blocks, and a linear classifier.

    20 convolutions, 11.7 million parameters and 1.8 billion multiply-accumulates per image of 224×224. Blocks are
    activated after the sum, as in the paper: what each convolution reads comes from a ReLU. Where size and channels
    change, a 1×1 convolution with batch norm is the shortcut. The keys of the state_dict are those of torchvision's
    resnet18, whose weights load with strict=True.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the first stage; each further stage has twice as many as the one before.

    Shapes: float [B, in_channels, H, W] (ImageNet: 224×224) to logits [B, num_classes].

    Raises:
        ValueError: a count below 1; in forward, images of another shape.
        TypeError: a count that is no int.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 1000, width: int = 64) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes, width=width)
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, "ResNet18", self.in_channels)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


class _Block(nn.Module):
    """Two 3×3 convolutions with batch norm, the shortcut, and ReLU: [B, C, H, W] to [B, C', ⌈H/stride⌉, ⌈W/stride⌉]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        body = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(body + shortcut)
        return out


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    blocks = [_Block(in_channels, out_channels, stride)]
    blocks += [_Block(out_channels, out_channels, 1) for _ in range(_BLOCKS_PER_STAGE - 1)]
    return nn.Sequential(*blocks)
