"""ReActNet-A (arXiv 2003.03488): MobileNet's shape with binary convolutions, learned thresholds and activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import QConv2d, RPReLU
from ..quantizations import RSign, WeightDoReFa
from .base import Model
from .common_layers import IMAGENET_INPUT_SHAPE, classifier, image_of

_STEM_CHANNELS = 32
#: Channels and stride of each block, as MobileNet has them.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class ReActBlock(nn.Module):
    """A binary 3×3 and a binary 1×1 convolution, each with batch norm, a shortcut and RPReLU behind the sum.

    The shortcut of the first averages where the stride is 2, that of the second repeats the channels where they double.

    Args:
        in_channels: of the input.
        out_channels: as many, or twice as many.
        stride: 1 or 2, of the first convolution.

    Shapes: float [B, in_channels, H, W] to [B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉].

    Raises:
        ValueError: other out_channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        if out_channels not in (in_channels, 2 * in_channels):
            raise ValueError(f"out_channels must be {in_channels} or twice as many, got {out_channels}")
        self.doubles = out_channels != in_channels
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.spatial = _binary_conv(in_channels, in_channels, 3, stride)
        self.spatial_activation = RPReLU(in_channels)
        # The paper has two convolutions side by side where the channels double; both read the same, so they are one.
        self.pointwise = _binary_conv(in_channels, out_channels, 1, 1)
        self.pointwise_activation = RPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial_activation(self.spatial(x) + self.pool(x))
        shortcut = torch.cat([x, x], dim=1) if self.doubles else x
        out: Tensor = self.pointwise_activation(self.pointwise(x) + shortcut)
        return out


def _binary_conv(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    conv = QConv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        input_quantization=RSign(in_channels, 2),
        weight_quantization=WeightDoReFa(1, variant="paper", per_channel=True),
        gradient_cancellation_threshold=0,  # by |x|, which the learned thresholds shift
        pad_value=0,
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class ReActNetA(Model):
    """A float 3×3 stem, 13 blocks of two binary convolutions, global average and a linear classifier.

    29 million parameters for ImageNet. Inputs of the convolutions are signs with a learned shift per channel, their
    weights signs times their mean per channel, and borders are zeros.

    Args:
        input_shape: [batch, channels, height, width]; the stem has stride 2 for 224×224 and 1 for other sizes.
        num_classes: number of logits; 0 leaves the classifier out.

    Shapes: float [B, channels, H, W] to logits [B, num_classes].
    """

    name = "ReActNetA"

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(input_shape, num_classes)
        image_channels, resolution = image_of(self._input_shape)
        stride = 2 if resolution == IMAGENET_INPUT_SHAPE[-2:] else 1
        channels = _STEM_CHANNELS
        layers: list[nn.Module] = [
            nn.Conv2d(image_channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        for out_channels, block_stride in _BLOCKS:
            layers.append(ReActBlock(channels, out_channels, block_stride))
            channels = out_channels
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier(channels, num_classes)]
        self._model = nn.Sequential(*layers)
