"""BITorch's DenseNet with low-bit convolutions."""

from __future__ import annotations

import argparse
from typing import ClassVar

import torch
from torch import Tensor, nn

from .dense import DenseModel, DenseSize, FixedDense, FlexDense
from .dense_layers import BlockMaker, DenseLayer, DenseSettings


class DenseBlock(nn.ModuleDict):
    """Layers that each read what came in and all that the ones in front have made.

    Args:
        num_layers: how many, under the keys DenseLayer_1, DenseLayer_2, …
        in_channels: of the input.
        settings: growth_rate and the like.
        dilation: of the convolutions.

    Shapes: float [B, in_channels, H, W] to [B, in_channels + num_layers·growth_rate, H, W].
    """

    def __init__(self, num_layers: int, in_channels: int, settings: DenseSettings, dilation: int = 1) -> None:
        super().__init__()
        for index in range(num_layers):
            layer = DenseLayer(in_channels + index * settings.growth_rate, settings, dilation)
            self.add_module(f"DenseLayer_{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class DenseNet(DenseModel):
    """A densely connected net (arXiv 1608.06993) whose convolutions, but for stem and transitions, are low-bit.

    Args:
        num_layers: 28, 37 or 45; None with a flex_block_config.
        input_shape: [batch, channels, height, width]; 224×224 has a 7×7 stem with pooling, other sizes a 3×3 one.
        num_classes: number of logits; 0 leaves the classifier out.
        num_init_features: channels of the stem.
        growth_rate: channels that a layer adds.
        bn_size: 0, or the factor on growth_rate that a 1×1 convolution in front of each layer has for channels.
        dropout: probability, behind each layer.
        dilated: whether the last two blocks dilate by 2 and 4, in place of pooling in front of them.
        flex_block_config: layers of each of the four blocks, where num_layers is None.
        reduction: what the channels are divided by in each transition; None: 2.7, 2.7, 2.2 with 28 layers, 3.3, 3.3, 4
            with 37, 2.7, 3.3, 4 with 45, and 2 with a flex_block_config. Channels are rounded to multiples of 32.
        downsample_structure: parts of a transition, with commas between: bn, relu, q_conv, fp_conv (1×1), pool,
            max_pool (2×2), cs (a channel shuffle); with :GROUPS behind a convolution or a shuffle. None:
            "bn,max_pool,relu,fp_conv".

    Shapes: float [B, channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: another size, or numbers out of range. TypeError: counts that are no int.
    """

    name = "DenseNet"
    _sizes: ClassVar = {
        "28": DenseSize((6, 6, 6, 5), (2.7, 2.7, 2.2)),
        "37": DenseSize((6, 8, 12, 6), (3.3, 3.3, 4)),
        "45": DenseSize((6, 12, 14, 8), (2.7, 3.3, 4)),
    }
    _block: ClassVar[BlockMaker] = DenseBlock

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add --num-layers, --reduction, --growth-rate, --init-features and --downsample-structure."""
        DenseNet._add_arguments(parser)


class DenseNet28(FixedDense, DenseNet):
    """DenseNet with 28 layers: 5.1 million parameters for ImageNet. Arguments: see DenseNet."""

    name = "DenseNet28"
    _num_layers = "28"


class DenseNet37(FixedDense, DenseNet):
    """DenseNet with 37 layers: 8.7 million parameters for ImageNet. Arguments: see DenseNet."""

    name = "DenseNet37"
    _num_layers = "37"


class DenseNet45(FixedDense, DenseNet):
    """DenseNet with 45 layers: 13.9 million parameters for ImageNet. Arguments: see DenseNet."""

    name = "DenseNet45"
    _num_layers = "45"


class DenseNetFlex(FlexDense, DenseNet):
    """DenseNet with a flex_block_config. Arguments: see DenseNet."""

    name = "DenseNetFlex"
