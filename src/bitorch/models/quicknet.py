"""QuickNet (arXiv 2011.09398): one low-bit convolution in each block, and few float ones in between."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import QConv2d
from .base import Model, NoArgparseArgsMixin
from .blocks import check_counts
from .common_layers import classifier, get_initial_layers, image_of

_SECTION_FILTERS = (64, 128, 256, 512)
_SECTION_BLOCKS = (4, 4, 4, 4)
#: Latent weights beyond it would seldom change their signs again.
_CLIP_VALUE = 1.25
#: Rows of Pascal's triangle, by the side of the kernel.
_BINOMIAL = {2: (1, 1), 3: (1, 2, 1), 5: (1, 4, 6, 4, 1)}


class ResidualBlock(nn.Module):
    """A low-bit 3×3 convolution, ReLU and batch norm, plus the input: float [B, channels, H, W] to the same.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qconv = QConv2d(channels, channels, 3, padding="same", pad_value=1)
        self.relu = nn.ReLU()
        self.bnorm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bnorm(self.relu(self.qconv(x))) + x
        return out


class TransitionBlock(nn.Sequential):
    """Pooling and a frozen blur of some stride in place of aliasing, then a float 1×1 convolution and batch norm.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        strides: by which the sides shrink.

    Shapes: float [B, in_channels, H, W] to [B, out_channels, ⌊H/strides⌋, ⌊W/strides⌋].
    """

    def __init__(self, in_channels: int, out_channels: int, strides: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(strides, stride=1)
        self.pad = nn.ZeroPad2d((1, 1, 1, 1))
        self.depth_conv = nn.Conv2d(in_channels, in_channels, 3, stride=strides, groups=in_channels, bias=False)
        self.depth_conv.weight.requires_grad_(False)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.relu2 = nn.ReLU()
        self.norm = nn.BatchNorm2d(out_channels)


class QuickNet(Model):
    """A stem that quarters the image, sections of low-bit residual blocks, and transitions that halve it in between.

    Args:
        input_shape: [batch, channels, height, width], sides of at least 32.
        section_filters: channels of each section, None: 64, 128, 256, 512.
        section_blocks: blocks of each section, None: 4, 4, 4, 4.
        num_classes: number of logits; 0 leaves the classifier out.

    Shapes: float [B, channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: not as many filters as blocks, counts below 1, first filters that are no multiple of 4.
        TypeError: counts that are no int.
    """

    name = "QuickNet"

    def __init__(
        self,
        input_shape: Sequence[int],
        section_filters: Sequence[int] | None = None,
        section_blocks: Sequence[int] | None = None,
        num_classes: int = 0,
    ) -> None:
        super().__init__(input_shape, num_classes)
        filters = _SECTION_FILTERS if section_filters is None else tuple(section_filters)
        blocks = _SECTION_BLOCKS if section_blocks is None else tuple(section_blocks)
        if len(filters) != len(blocks) or not filters:
            raise ValueError(
                f"section_filters and section_blocks must have a number for each section, got {filters} and {blocks}"
            )
        check_counts(**{f"section_filters[{i}]": count for i, count in enumerate(filters)})
        check_counts(**{f"section_blocks[{i}]": count for i, count in enumerate(blocks)})
        image_channels, _ = image_of(self._input_shape)
        self._model = nn.Sequential()
        self._model.add_module("stem", nn.Sequential(*get_initial_layers("quicknet_stem", image_channels, filters[0])))
        self._model.add_module("body", _sections(filters, blocks))
        top = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier(filters[-1], num_classes))
        self._model.add_module("top", nn.Sequential(*top))
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights: He's normal in the stem, Xavier's elsewhere; the kernels of the blurs are set."""
        for layer in self._model.modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.requires_grad:
                _set_blur(layer)
            elif isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.Linear) and layer.weight.numel()):
                nn.init.xavier_normal_(layer.weight)
        for layer in self._model.get_submodule("stem").modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                nn.init.xavier_uniform_(layer.weight)
            elif isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    @staticmethod
    def clip_weights(layer: nn.Module, clip_value: float = _CLIP_VALUE) -> None:
        """Clamp the weight of a residual block's convolution to [−clip_value, clip_value]; leave other layers alone."""
        if isinstance(layer, ResidualBlock):
            with torch.no_grad():
                layer.qconv.weight.clamp_(-clip_value, clip_value)

    def on_train_batch_end(self, layer: nn.Module) -> None:
        """Clamp the weights of residual blocks to [−1.25, 1.25]."""
        self.clip_weights(layer)


def _sections(filters: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    body = nn.Sequential()
    for index, (channels, count) in enumerate(zip(filters, blocks, strict=True)):
        if index > 0:
            body.add_module(f"Transition_{index}", TransitionBlock(filters[index - 1], channels, 2))
        section = nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
        body.add_module(f"ResidualBlocks_{index + 1}", section)
    return body


def _set_blur(layer: nn.Conv2d) -> None:
    """Make a depthwise convolution a blur: products of binomial coefficients, whose sum is 1."""
    side = layer.kernel_size[0]
    if side not in _BINOMIAL:
        raise ValueError(f"a blur must have a kernel of {', '.join(map(str, _BINOMIAL))}, got {side}")
    row = torch.tensor(_BINOMIAL[side], dtype=layer.weight.dtype, device=layer.weight.device)
    kernel = torch.outer(row, row) / row.sum() ** 2
    with torch.no_grad():
        layer.weight.copy_(kernel.expand_as(layer.weight))


class QuickNetSmall(NoArgparseArgsMixin, QuickNet):
    """QuickNet of half the channels in the first two sections: 12.7 million parameters. Arguments: see QuickNet."""

    name = "QuickNetSmall"

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(input_shape, section_filters=(32, 64, 256, 512), num_classes=num_classes)


class QuickNetLarge(NoArgparseArgsMixin, QuickNet):
    """QuickNet of twice as many blocks: 23.3 million parameters. Arguments: see QuickNet."""

    name = "QuickNetLarge"

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__(input_shape, section_blocks=(6, 8, 12, 6), num_classes=num_classes)
