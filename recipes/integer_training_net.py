"""A net for small grey images whose work is in its inner convolutions, as that of nets for larger images is."""

from __future__ import annotations

from torch import nn


def small_net(num_classes: int = 10) -> nn.Sequential:
    """Return five 3×3 convolutions of 64 and 128 channels and a linear classifier, for 28×28 grey images.

    The first convolution has stride 2, so that little is computed outside of the inner ones: of 36 million
    multiply-accumulates of an image 0.1 are its. Behind each stand BatchNorm, max-pooling where the size changes, and
    ReLU.
    """
    return nn.Sequential(
        *_block(nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False)),  # 28 → 14
        *_block(_inner(64, 64)),
        *_block(_inner(64, 128), nn.MaxPool2d(2)),  # 14 → 7
        *_block(_inner(128, 128)),
        *_block(_inner(128, 128)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def _inner(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _block(convolution: nn.Conv2d, *pool: nn.Module) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), *pool, nn.ReLU()]
