"""What nets of dense blocks share: blocks that widen the features, and transitions that narrow and halve them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..layers import QConv2d
from .blocks import check_counts
from .common_layers import classifier, get_initial_layers

#: What a transition is made of, unless a net says it.
DOWNSAMPLE_STRUCTURE = "bn,max_pool,relu,fp_conv"
_PARTS = ("bn", "relu", "q_conv", "fp_conv", "pool", "max_pool", "cs")
_SHUFFLE_GROUPS = 16
#: Channels behind a transition are a multiple of it.
_CHANNEL_STEP = 32


@dataclass(frozen=True)
class DenseSettings:
    """How a net of dense blocks is built.

    Attributes:
        block_config: layers of each block.
        reductions: what the channels are divided by in each transition: one fewer than blocks.
        num_init_features: channels of the stem.
        growth_rate: channels that a layer adds.
        bn_size: 0, or the factor on growth_rate that a 1×1 convolution in front of each layer has for channels.
        dropout: probability, behind each layer.
        dilated: whether the last two blocks dilate by 2 and 4, in place of pooling in front of them.
        downsample_structure: parts of a transition, with commas between: bn, relu, q_conv and fp_conv (1×1), pool and
            max_pool (2×2), cs (a channel shuffle of 16 groups). Groups follow a colon: fp_conv:4.

    Raises:
        ValueError: counts that do not fit, probabilities or factors out of range. TypeError: counts that are no int.
    """

    block_config: tuple[int, ...]
    reductions: tuple[float, ...]
    num_init_features: int = 64
    growth_rate: int = 64
    bn_size: int = 0
    dropout: float = 0.0
    dilated: bool = False
    downsample_structure: str = DOWNSAMPLE_STRUCTURE

    def __post_init__(self) -> None:
        check_counts(num_init_features=self.num_init_features, growth_rate=self.growth_rate)
        if isinstance(self.bn_size, bool) or not isinstance(self.bn_size, int) or self.bn_size < 0:
            raise ValueError(f"bn_size must be 0 (no bottleneck) or a factor on growth_rate, got {self.bn_size!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability below 1, got {self.dropout}")
        if len(self.reductions) != len(self.block_config) - 1 or not all(factor > 0 for factor in self.reductions):
            raise ValueError(
                f"reduction must be {len(self.block_config) - 1} factors above 0, one for each transition, "
                f"got {self.reductions}"
            )
        for part in self.downsample_structure.split(","):
            _parsed_part(part)

    def dilations(self) -> tuple[int, ...]:
        """Return the dilation of each block."""
        last = len(self.block_config) - 1
        return tuple(2 ** max(0, i - last + 2) if self.dilated else 1 for i in range(last + 1))


class DenseLayer(nn.Module):
    """Batch norm and a low-bit 3×3 convolution, which give growth_rate new channels: [B, C, H, W] to [B, growth, H, W].

    With a bn_size, a low-bit 1×1 convolution and a batch norm stand in front of the convolution.
    """

    def __init__(self, in_channels: int, settings: DenseSettings, dilation: int) -> None:
        super().__init__()
        growth = settings.growth_rate
        layers: list[nn.Module] = [nn.BatchNorm2d(in_channels)]
        if settings.bn_size:
            inner = settings.bn_size * growth
            layers += [QConv2d(in_channels, inner, 1), nn.BatchNorm2d(inner)]
            in_channels = inner
        layers.append(QConv2d(in_channels, growth, 3, padding=dilation, dilation=dilation))
        if settings.dropout:
            layers.append(nn.Dropout(settings.dropout))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        new: Tensor = self.features(x)
        return new


#: From how many channels come in, the settings and the dilation. Gives settings.growth_rate more for each layer of it.
BlockMaker = Callable[[int, int, DenseSettings, int], nn.Module]


class BaseNetDense(nn.Module):
    """A stem, dense blocks with transitions between, batch norm, ReLU, global average and a linear classifier.

    Args:
        settings: sizes and kinds.
        make_block: from the number of layers, the channels that come in, the settings and the dilation.
        stem: name or size for get_initial_layers.
        image_channels: of the images.
        classes: number of logits; 0 leaves the classifier out.

    Shapes: float [B, image_channels, H, W] to logits [B, classes].
    """

    def __init__(
        self,
        settings: DenseSettings,
        make_block: BlockMaker,
        stem: Sequence[int] | str,
        image_channels: int,
        classes: int,
    ) -> None:
        super().__init__()
        channels = settings.num_init_features
        self.features = nn.Sequential(*get_initial_layers(stem, image_channels, channels))
        dilations = settings.dilations()
        for index, (count, dilation) in enumerate(zip(settings.block_config, dilations, strict=True)):
            if index > 0:
                reduced = _reduced(channels, settings.reductions[index - 1])
                transition = _transition(channels, reduced, settings.downsample_structure, dilation)
                self.features.add_module(f"Transition_{index}", transition)
                channels = reduced
            self.features.add_module(f"DenseBlock_{index + 1}", make_block(count, channels, settings, dilation))
            channels += count * settings.growth_rate
        self.finalize = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.output = classifier(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.finalize(self.features(x)))
        return logits


def _reduced(channels: int, factor: float) -> int:
    reduced = round((channels // factor) / _CHANNEL_STEP) * _CHANNEL_STEP
    if reduced < 1:
        raise ValueError(f"reduction {factor} leaves none of {channels} channels; choose a smaller one")
    return reduced


def _transition(channels: int, reduced: int, structure: str, dilation: int) -> nn.Sequential:
    """Return the layers between two blocks; pools are left out in front of blocks that dilate."""
    layers: list[nn.Module] = []
    for part in structure.split(","):
        kind, groups = _parsed_part(part)
        if kind in ("pool", "max_pool") and dilation > 1:
            continue
        layers.append(_transition_layer(kind, groups, channels, reduced))
        if kind in ("q_conv", "fp_conv"):
            channels = reduced
    if channels != reduced:
        raise ValueError(
            f"downsample_structure must have q_conv or fp_conv, which reduce the channels, got {structure!r}"
        )
    return nn.Sequential(*layers)


def _transition_layer(kind: str, groups: int, channels: int, reduced: int) -> nn.Module:
    makers: dict[str, Callable[[], nn.Module]] = {
        "bn": lambda: nn.BatchNorm2d(channels),
        "relu": nn.ReLU,
        "q_conv": lambda: QConv2d(channels, reduced, 1, groups=groups),
        "fp_conv": lambda: nn.Conv2d(channels, reduced, 1, groups=groups, bias=False),
        "pool": lambda: nn.AvgPool2d(2),
        "max_pool": lambda: nn.MaxPool2d(2),
        "cs": lambda: nn.ChannelShuffle(groups),
    }
    return makers[kind]()


def _parsed_part(part: str) -> tuple[str, int]:
    """Return the kind of a transition's part and its groups; ValueError for another one."""
    kind, colon, groups = part.strip().partition(":")
    is_grouped = kind in ("q_conv", "fp_conv", "cs")
    if kind not in _PARTS or (colon and not (is_grouped and groups.isdecimal() and int(groups) > 0)):
        raise ValueError(
            f"downsample_structure must be parts out of {', '.join(_PARTS)} with commas between, "
            f"with :GROUPS behind q_conv, fp_conv and cs where wanted, got {part!r}"
        )
    if colon:
        return kind, int(groups)
    return kind, _SHUFFLE_GROUPS if kind == "cs" else 1
