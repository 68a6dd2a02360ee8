"""Bi-Real net (arXiv 1808.00278): binary convolutions whose float sums a shortcut carries past each of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..layers import QConv2d
from ..quantizations import ApproxSign, WeightDoReFa
from .base import Model
from .common_layers import classifier, get_initial_layers, image_of
from .residual import residual_stages
from .resnet_e import BasicBlock

_CHANNELS = (64, 64, 128, 256, 512)
#: Of one convolution each.
_BLOCKS = (4, 4, 4, 4)


class BiRealBlock(BasicBlock):
    """A binary 3×3 convolution with batch norm, plus the shortcut. Arguments, shapes: see resnet_e.BasicBlock.

    Inputs are signs whose gradient is that of a quadratic spline, weights are signs times their mean per channel, and
    borders are zeros.
    """

    def _build_body(self) -> nn.Module:
        conv = QConv2d(
            self.in_channels,
            self.out_channels,
            3,
            stride=self.stride,
            padding=1,
            input_quantization=ApproxSign(),
            weight_quantization=WeightDoReFa(1, variant="paper", per_channel=True),
            gradient_cancellation_threshold=0,  # the spline's gradient is 0 there anyway
            pad_value=0,
        )
        return nn.Sequential(conv, nn.BatchNorm2d(self.out_channels))


class BiRealNet18(Model):
    """A 7×7 stem with pooling, 16 binary convolutions with a shortcut around each, and a linear classifier.

    11.7 million parameters for ImageNet, 11.0 million of them binary.

    Args:
        input_shape: [batch, channels, height, width]; sizes other than 224×224 have a 3×3 stem without pooling.
        num_classes: number of logits; 0 leaves the classifier out.

    Shapes: float [B, channels, H, W] to logits [B, num_classes].
    """

    name = "BiRealNet18"

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(input_shape, num_classes)
        image_channels, resolution = image_of(self._input_shape)
        self._model = nn.Sequential(
            *get_initial_layers(resolution, image_channels, _CHANNELS[0]),
            *residual_stages(BiRealBlock, _BLOCKS, _CHANNELS),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            classifier(_CHANNELS[-1], num_classes),
        )
