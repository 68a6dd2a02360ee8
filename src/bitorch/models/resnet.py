"""BITorch's residual nets with low-bit convolutions, activated after (V1) or before (V2) the sum's branches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import Tensor, nn

from ..layers import QConv2d, QConv2d_NoAct
from .base import Model, NoArgparseArgsMixin
from .common_layers import get_initial_layers, image_of
from .residual import ResidualBlock, ResidualNet, residual_stages


class BasicBlockV1(ResidualBlock):
    """Two 3×3 convolutions with batch norm behind each, plus the shortcut: [B, C, H, W] to [B, C', H', W'].

    Attributes and arguments: see ResidualBlock. The convolutions quantize what they read.
    """

    def _build_body(self) -> nn.Module:
        return nn.Sequential(
            QConv2d(self.in_channels, self.out_channels, 3, stride=self.stride, padding=1),
            nn.BatchNorm2d(self.out_channels),
            QConv2d(self.out_channels, self.out_channels, 3, padding=1),
            nn.BatchNorm2d(self.out_channels),
        )

    def _build_downsample(self) -> nn.Module:
        return nn.Sequential(
            QConv2d(self.in_channels, self.out_channels, 1, stride=self.stride), nn.BatchNorm2d(self.out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self._sum(self.body(x), x)


class BottleneckV1(ResidualBlock):
    """1×1, 3×3 and 1×1 convolutions of low-bit weights and float inputs, plus the shortcut, then ReLU."""

    def _build_body(self) -> nn.Module:
        inner = self.out_channels // 4
        return nn.Sequential(
            QConv2d_NoAct(self.in_channels, inner, 1, stride=self.stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            QConv2d_NoAct(inner, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            QConv2d_NoAct(inner, self.out_channels, 1),
            nn.BatchNorm2d(self.out_channels),
        )

    def _build_downsample(self) -> nn.Module:
        return nn.Sequential(
            QConv2d_NoAct(self.in_channels, self.out_channels, 1, stride=self.stride),
            nn.BatchNorm2d(self.out_channels),
        )

    def __init__(self, in_channels: int, out_channels: int, stride: int = -1) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self._sum(self.body(x), x))
        return out


class BasicBlockV2(ResidualBlock):
    """Batch norm, two 3×3 convolutions with a batch norm between, plus the shortcut, which x passes as it came."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = -1) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.bn = nn.BatchNorm2d(in_channels)

    def _build_body(self) -> nn.Module:
        return nn.Sequential(
            QConv2d(self.in_channels, self.out_channels, 3, stride=self.stride, padding=1),
            nn.BatchNorm2d(self.out_channels),
            QConv2d(self.out_channels, self.out_channels, 3, padding=1),
        )

    def _build_downsample(self) -> nn.Module:
        return QConv2d(self.in_channels, self.out_channels, 1, stride=self.stride)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.bn(x)
        return self._sum(self.body(normed), normed if self.shall_downsample else x)


class BottleneckV2(ResidualBlock):
    """Batch norm, ReLU, then 1×1, 3×3 and 1×1 convolutions of low-bit weights and float inputs, plus the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = -1) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.bn = nn.BatchNorm2d(in_channels)
        self.activation = nn.ReLU()

    def _build_body(self) -> nn.Module:
        inner = self.out_channels // 4
        return nn.Sequential(
            QConv2d_NoAct(self.in_channels, inner, 1, stride=self.stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            QConv2d_NoAct(inner, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            QConv2d_NoAct(inner, self.out_channels, 1),
        )

    def _build_downsample(self) -> nn.Module:
        return QConv2d_NoAct(self.in_channels, self.out_channels, 1, stride=self.stride)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.activation(self.bn(x))
        return self._sum(self.body(normed), normed if self.shall_downsample else x)


class ResNetV1(ResidualNet):
    """Batch norm of the image, the stem, batch norm, four stages, ReLU, global average and a linear classifier.

    Args:
        block: BasicBlockV1 or BottleneckV1.
        layers: blocks of each stage.
        channels: of the stem, then of each stage: one more than layers.
        classes: number of logits; 0 leaves the classifier out.
        image_resolution: (height, width), which decides on the stem; see get_initial_layers.
        image_channels: of the images.

    Shapes: float [B, image_channels, H, W] to logits [B, classes].

    Raises:
        ValueError: not one more of channels than of layers.
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
        stages = residual_stages(block, layers, channels)
        parts = [
            nn.BatchNorm2d(image_channels),
            *get_initial_layers(image_resolution, image_channels, channels[0]),
            nn.BatchNorm2d(channels[0]),
            *stages,
        ]
        super().__init__(parts, channels[-1], classes)


class ResNetV2(ResidualNet):
    """Batch norm of the image, the stem, four stages, batch norm, ReLU, global average and a linear classifier.

    Arguments, shapes and errors: see ResNetV1, with BasicBlockV2 or BottleneckV2.
    """

    def __init__(
        self,
        block: type[ResidualBlock],
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 1000,
        image_resolution: Sequence[int] | None = None,
        image_channels: int = 3,
    ) -> None:
        stages = residual_stages(block, layers, channels)
        parts = [
            nn.BatchNorm2d(image_channels),
            *get_initial_layers(image_resolution, image_channels, channels[0]),
            *stages,
            nn.BatchNorm2d(channels[-1]),
        ]
        super().__init__(parts, channels[-1], classes)


_BASIC_CHANNELS = (64, 64, 128, 256, 512)
_BOTTLENECK_CHANNELS = (64, 256, 512, 1024, 2048)
#: Blocks of each stage, and channels, by the number of layers.
_SIZES = {
    18: ((2, 2, 2, 2), _BASIC_CHANNELS),
    34: ((3, 4, 6, 3), _BASIC_CHANNELS),
    50: ((3, 4, 6, 3), _BOTTLENECK_CHANNELS),
    101: ((3, 4, 23, 3), _BOTTLENECK_CHANNELS),
    152: ((3, 8, 36, 3), _BOTTLENECK_CHANNELS),
}
_NETS: dict[int, type[ResNetV1 | ResNetV2]] = {1: ResNetV1, 2: ResNetV2}
#: By version, and by whether the net has bottlenecks.
_BLOCKS: dict[tuple[int, bool], type[ResidualBlock]] = {
    (1, False): BasicBlockV1,
    (1, True): BottleneckV1,
    (2, False): BasicBlockV2,
    (2, True): BottleneckV2,
}


class Resnet(Model):
    """A residual net (arXiv 1512.03385, 1603.05027) whose convolutions but the stem are low-bit.

    With 18 and 34 layers they quantize what they read; with 50, 101 and 152 the blocks are bottlenecks, whose weights
    alone are low-bit.

    Args:
        resnet_version: 1 or 2.
        resnet_num_layers: 18, 34, 50, 101 or 152.
        input_shape: [batch, channels, height, width]; 224×224 has a 7×7 stem with pooling, other sizes a 3×3 one.
        num_classes: number of logits; 0 leaves the classifier out.

    Shapes: float [B, channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: another version or number of layers.
    """

    name = "Resnet"

    def __init__(
        self, resnet_version: int, resnet_num_layers: int, input_shape: Sequence[int], num_classes: int = 0
    ) -> None:
        super().__init__(input_shape, num_classes)
        if resnet_version not in _NETS:
            raise ValueError(f"resnet_version must be 1 or 2, got {resnet_version!r}")
        if resnet_num_layers not in _SIZES:
            known = ", ".join(map(str, _SIZES))
            raise ValueError(f"resnet_num_layers must be one of {known}, got {resnet_num_layers!r}")
        image_channels, resolution = image_of(self._input_shape)
        layers, channels = _SIZES[resnet_num_layers]
        block = _BLOCKS[resnet_version, channels is _BOTTLENECK_CHANNELS]
        self._model = _NETS[resnet_version](block, layers, channels, num_classes, resolution, image_channels)

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add --version and --num-layers, which become resnet_version and resnet_num_layers."""
        parser.add_argument("--version", type=int, choices=tuple(_NETS), required=True, dest="resnet_version")
        parser.add_argument("--num-layers", type=int, choices=tuple(_SIZES), required=True, dest="resnet_num_layers")


class _Fixed(NoArgparseArgsMixin, Resnet):
    """A Resnet of one version and size, which a subclass says."""

    _version: int
    _num_layers: int

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(self._version, self._num_layers, input_shape, num_classes)


class Resnet18V1(_Fixed):
    """Resnet of version 1 with 18 layers: 11.7 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet18V1"
    _version, _num_layers = 1, 18


class Resnet34V1(_Fixed):
    """Resnet of version 1 with 34 layers: 21.8 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet34V1"
    _version, _num_layers = 1, 34


class Resnet50V1(_Fixed):
    """Resnet of version 1 with 50 layers: 25.6 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet50V1"
    _version, _num_layers = 1, 50


class Resnet152V1(_Fixed):
    """Resnet of version 1 with 152 layers: 60 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet152V1"
    _version, _num_layers = 1, 152


class Resnet18V2(_Fixed):
    """Resnet of version 2 with 18 layers: 11.7 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet18V2"
    _version, _num_layers = 2, 18


class Resnet34V2(_Fixed):
    """Resnet of version 2 with 34 layers: 21.8 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet34V2"
    _version, _num_layers = 2, 34


class Resnet50V2(_Fixed):
    """Resnet of version 2 with 50 layers: 25.5 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet50V2"
    _version, _num_layers = 2, 50


class Resnet152V2(_Fixed):
    """Resnet of version 2 with 152 layers: 60 million parameters for ImageNet. Arguments: see Resnet."""

    name = "Resnet152V2"
    _version, _num_layers = 2, 152
