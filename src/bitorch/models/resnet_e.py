"""BITorch's ResNetE: a shortcut around each low-bit convolution, and float ones where the channels change."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import Tensor, nn

from ..layers import QConv2d
from .base import Model, NoArgparseArgsMixin
from .common_layers import get_initial_layers, image_of
from .residual import ResidualBlock, ResidualNet, residual_stages


class BasicBlock(ResidualBlock):
    """One low-bit 3×3 convolution with batch norm, plus the shortcut: [B, C, H, W] to [B, C', ⌈H/stride⌉, ⌈W/stride⌉].

    Where channels or size change, the shortcut averages, and a float 1×1 convolution with batch norm follows.
    """

    def _build_body(self) -> nn.Module:
        return nn.Sequential(
            QConv2d(self.in_channels, self.out_channels, 3, stride=self.stride, padding=1),
            nn.BatchNorm2d(self.out_channels),
        )

    def _build_downsample(self) -> nn.Module:
        return nn.Sequential(
            nn.AvgPool2d(self.stride, self.stride, ceil_mode=True),
            nn.Conv2d(self.in_channels, self.out_channels, 1, bias=False),
            nn.BatchNorm2d(self.out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self._sum(self.body(x), x)


class _ResnetE(ResidualNet):
    """The stem, batch norm, four stages of twice that many blocks, ReLU, global average and a linear classifier.

    Arguments, shapes and errors: see bitorch.models.resnet.ResNetV1, with BasicBlock.
    """

    def __init__(
        self,
        block: type[ResidualBlock],
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int,
        image_resolution: Sequence[int] | None = None,
        image_channels: int = 3,
    ) -> None:
        # A block has one convolution here, where those of the nets that it is compared with have two.
        stages = residual_stages(block, [2 * count for count in layers], channels)
        parts = [
            *get_initial_layers(image_resolution, image_channels, channels[0]),
            nn.BatchNorm2d(channels[0]),
            *stages,
        ]
        super().__init__(parts, channels[-1], classes)


_CHANNELS = (64, 64, 128, 256, 512)
_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class ResnetE(Model):
    """A residual net with a shortcut around each of its low-bit convolutions ("Back to Simplicity", arXiv 1906.08637).

    Args:
        resnete_num_layers: 18 or 34.
        input_shape: [batch, channels, height, width]; 224×224 has a 7×7 stem with pooling, other sizes a 3×3 one.
        num_classes: number of logits; 0 leaves the classifier out.

    Shapes: float [B, channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: another number of layers.
    """

    name = "ResnetE"

    def __init__(self, resnete_num_layers: int, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(input_shape, num_classes)
        if resnete_num_layers not in _LAYERS:
            known = ", ".join(map(str, _LAYERS))
            raise ValueError(f"resnete_num_layers must be one of {known}, got {resnete_num_layers!r}")
        image_channels, resolution = image_of(self._input_shape)
        self._model = _ResnetE(
            BasicBlock, _LAYERS[resnete_num_layers], _CHANNELS, num_classes, resolution, image_channels
        )

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add --num-layers, which becomes resnete_num_layers."""
        parser.add_argument("--num-layers", type=int, choices=tuple(_LAYERS), required=True, dest="resnete_num_layers")


class ResnetE18(NoArgparseArgsMixin, ResnetE):
    """ResnetE with 18 layers: 11.7 million parameters for ImageNet. Arguments: see ResnetE."""

    name = "ResnetE18"

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(18, input_shape, num_classes)


class ResnetE34(NoArgparseArgsMixin, ResnetE):
    """ResnetE with 34 layers: 21.8 million parameters for ImageNet. Arguments: see ResnetE."""

    name = "ResnetE34"

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(34, input_shape, num_classes)
