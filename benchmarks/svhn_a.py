"""The DoReFa paper's SVHN net A from a convolution of choice. Imports nothing but torch, so any environment can."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

#: Builds an inner convolution without bias from (in_channels, out_channels, kernel_size, padding).
MakeConv = Callable[[int, int, int, int], nn.Module]

IMAGE_SIZE = 40


def svhn_a(make_conv: MakeConv, relu: bool) -> nn.Sequential:
    """Return the net for 40×40 colour images and 10 classes; `relu` puts a ReLU at the end of each block."""

    def block(conv: nn.Module, channels: int, pool: bool) -> list[nn.Module]:
        layers = [conv, nn.BatchNorm2d(channels, eps=1e-4)]
        if pool:
            layers.append(nn.MaxPool2d(2))
        if relu:
            layers.append(nn.ReLU())
        return layers

    return nn.Sequential(
        *block(nn.Conv2d(3, 48, 5), 48, pool=True),
        *block(make_conv(48, 64, 3, 1), 64, pool=False),
        *block(make_conv(64, 64, 3, 1), 64, pool=True),
        *block(make_conv(64, 128, 3, 0), 128, pool=False),
        *block(make_conv(128, 128, 3, 1), 128, pool=False),
        *block(make_conv(128, 128, 3, 0), 128, pool=False),
        nn.Dropout(0.5),
        *block(make_conv(128, 512, 5, 0), 512, pool=False),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
