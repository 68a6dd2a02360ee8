"""MeliusNet (arXiv 2001.05936): dense blocks that widen the features, each behind one that improves what was added."""

from __future__ import annotations

import argparse
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import QConv2d
from .dense import DenseModel, DenseSize, FixedDense, FlexDense
from .dense_layers import BlockMaker, DenseLayer, DenseSettings


class ImprovementBlock(nn.Module):
    """Batch norm and a low-bit 3×3 convolution, whose result is added to the last channels, which came in last.

    Args:
        growth_rate: how many channels are improved.
        in_channels: of the input, at least as many.
        dilation: of the convolution.

    Shapes: float [B, in_channels, H, W] to the same.
    """

    def __init__(self, growth_rate: int, in_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.kept_channels = in_channels - growth_rate
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels), QConv2d(in_channels, growth_rate, 3, padding=dilation, dilation=dilation)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, last = x[:, : self.kept_channels], x[:, self.kept_channels :]
        return torch.cat([kept, last + self.body(x)], dim=1)


class MeliusBlock(nn.ModuleDict):
    """Pairs of a layer that adds channels and one that improves them. Arguments, shapes: see densenet.DenseBlock.

    The keys are DenseLayer_1, ImprovementBlock_1, DenseLayer_2, …
    """

    def __init__(self, num_layers: int, in_channels: int, settings: DenseSettings, dilation: int = 1) -> None:
        super().__init__()
        growth = settings.growth_rate
        for number in range(1, num_layers + 1):
            channels = in_channels + number * growth
            self.add_module(f"DenseLayer_{number}", DenseLayer(channels - growth, settings, dilation))
            self.add_module(f"ImprovementBlock_{number}", ImprovementBlock(growth, channels, dilation))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = layer(x) if isinstance(layer, ImprovementBlock) else torch.cat([x, layer(x)], dim=1)
        return x


class MeliusNet(DenseModel):
    """A net of dense and improvement blocks, whose convolutions, but for stem and transitions, are low-bit.

    Args:
        num_layers: "22", "23", "29", "42", "59", "a", "b" or "c"; None with a flex_block_config.
        input_shape: [batch, channels, height, width]; 224×224 has a stem of three 3×3 convolutions with pooling, other
            sizes one 3×3 convolution.
        reduction: what the channels are divided by in each transition; None: what the size says, and 2 with a
            flex_block_config. Channels are rounded to multiples of 32.
        num_classes … downsample_structure: see bitorch.models.densenet.DenseNet.

    Shapes: float [B, channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: another size, or numbers out of range. TypeError: counts that are no int.
    """

    name = "MeliusNet"
    # Reductions are what comes in by what is kept, as the paper's table has the channels.
    _sizes: ClassVar = {
        "22": DenseSize((4, 5, 4, 4), (320 / 160, 480 / 224, 480 / 256)),
        "23": DenseSize((2, 4, 6, 6), (192 / 128, 384 / 192, 576 / 288), "bn,max_pool,relu,cs,fp_conv:8"),
        "29": DenseSize((4, 6, 8, 6), (320 / 128, 512 / 192, 704 / 256)),
        "42": DenseSize((5, 8, 14, 10), (384 / 160, 672 / 256, 1152 / 416)),
        "59": DenseSize((6, 12, 24, 12), (448 / 192, 960 / 320, 1856 / 544)),
        "a": DenseSize((4, 5, 5, 6), (320 / 160, 480 / 256, 576 / 288), "bn,max_pool,relu,fp_conv:4"),
        "b": DenseSize((4, 6, 8, 6), (320 / 160, 544 / 224, 736 / 320), "bn,max_pool,relu,fp_conv:2"),
        "c": DenseSize((3, 5, 10, 6), (256 / 128, 448 / 192, 832 / 288), "bn,max_pool,relu,fp_conv:4"),
    }
    _large_stem = "grouped_stem"
    _block: ClassVar[BlockMaker] = MeliusBlock

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add --num-layers, --reduction, --growth-rate, --init-features and --downsample-structure."""
        MeliusNet._add_arguments(parser)


class MeliusNet22(FixedDense, MeliusNet):
    """MeliusNet of size "22". Arguments: see MeliusNet."""

    name = "MeliusNet22"
    _num_layers = "22"


class MeliusNet23(FixedDense, MeliusNet):
    """MeliusNet of size "23". Arguments: see MeliusNet."""

    name = "MeliusNet23"
    _num_layers = "23"


class MeliusNet29(FixedDense, MeliusNet):
    """MeliusNet of size "29". Arguments: see MeliusNet."""

    name = "MeliusNet29"
    _num_layers = "29"


class MeliusNet42(FixedDense, MeliusNet):
    """MeliusNet of size "42". Arguments: see MeliusNet."""

    name = "MeliusNet42"
    _num_layers = "42"


class MeliusNet59(FixedDense, MeliusNet):
    """MeliusNet of size "59". Arguments: see MeliusNet."""

    name = "MeliusNet59"
    _num_layers = "59"


class MeliusNetA(FixedDense, MeliusNet):
    """MeliusNet of size "a". Arguments: see MeliusNet."""

    name = "MeliusNetA"
    _num_layers = "a"


class MeliusNetB(FixedDense, MeliusNet):
    """MeliusNet of size "b". Arguments: see MeliusNet."""

    name = "MeliusNetB"
    _num_layers = "b"


class MeliusNetC(FixedDense, MeliusNet):
    """MeliusNet of size "c". Arguments: see MeliusNet."""

    name = "MeliusNetC"
    _num_layers = "c"


class MeliusNetFlex(FlexDense, MeliusNet):
    """MeliusNet with a flex_block_config. Arguments: see MeliusNet."""

    name = "MeliusNetFlex"
