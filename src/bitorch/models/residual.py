"""What blocks with a shortcut share, the stages that nets make of them, and what stands behind those."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .common_layers import classifier


class ResidualBlock(nn.Module):
    """A body plus a shortcut; a subclass builds both.

    Attributes: in_channels, out_channels, stride, body, shall_downsample (whether channels or size change) and
    downsample, the module of the shortcut, or None where that is the input as it came.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride: of the body; -1 is 2 where the channels change, and 1 where they stay.
    """

    body: nn.Module
    downsample: nn.Module | None

    def __init__(self, in_channels: int, out_channels: int, stride: int = -1) -> None:
        super().__init__()
        if stride == -1:
            stride = 1 if in_channels == out_channels else 2
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.shall_downsample = in_channels != out_channels or stride != 1
        self.body = self._build_body()
        self.downsample = self._build_downsample() if self.shall_downsample else None

    def _build_body(self) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} does not define _build_body()")

    def _build_downsample(self) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} does not define _build_downsample()")

    def _sum(self, branch: Tensor, x: Tensor) -> Tensor:
        """Return the branch plus the shortcut of x."""
        return branch + (x if self.downsample is None else self.downsample(x))


class ResidualNet(nn.Module):
    """Layers up to the last stage, then ReLU, global average and a linear classifier.

    Args:
        layers: up to the last stage; what is common to all stands behind them, in `features`.
        channels: that leave the last stage.
        classes: number of logits; 0 leaves the classifier out.
    """

    def __init__(self, layers: Sequence[nn.Module], channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.output_layer = classifier(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output_layer(self.features(x))
        return logits


def residual_stages(block: type[ResidualBlock], layers: Sequence[int], channels: Sequence[int]) -> list[nn.Sequential]:
    """Return the stages, each of that many blocks; channels are those of the stem, then of each stage.

    The first stage keeps the size of the images, the first block of each later one halves it.

    Raises:
        ValueError: not one more of channels than of layers.
    """
    if len(channels) != len(layers) + 1:
        raise ValueError(
            f"channels must have one number for the stem and one for each of the {len(layers)} stages, "
            f"got {tuple(channels)}"
        )
    stages = []
    for index, count in enumerate(layers):
        first = block(channels[index], channels[index + 1], stride=1 if index == 0 else 2)
        others = [block(channels[index + 1], channels[index + 1]) for _ in range(count - 1)]
        stages.append(nn.Sequential(first, *others))
    return stages
