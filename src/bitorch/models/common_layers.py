"""The first layers of the zoo's nets, which depend on the size of the images, and the last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .blocks import check_counts

#: Of a batch of ImageNet's images, as they are cropped.
IMAGENET_INPUT_SHAPE = (1, 3, 224, 224)
IMAGENET_CLASSES = 1000

_LARGE_IMAGE = (224, 224)
_NAMED = ("imagenet", "grouped_stem", "quicknet_stem", "small")


def get_initial_layers(
    variant: Sequence[int] | str | None, input_channels: int, output_channels: int
) -> list[nn.Module]:
    """Return the layers in front of the first block, to be put in a flat nn.Sequential. None has a bias.

    Batch norms have PyTorch's momentum of 0.1: the 0.9 that other libraries write for it weighs the past.

    Args:
        variant: height and width of the images, as a tuple or a list, or a name.
            "imagenet", or 224×224: a 7×7 convolution of stride 2, batch norm, ReLU, max-pooling: a quarter of the size.
            "grouped_stem": MeliusNet's three 3×3 convolutions in its place, the later two of 4 and 8 groups.
            "quicknet_stem": QuickNet's, 3×3 of stride 2, 3×3 depthwise of stride 2, 1×1.
            "small", None, or any other size: one 3×3 convolution, which leaves the size as it is.
        input_channels: of the images.
        output_channels: of the last layer; a multiple of 4 for "quicknet_stem", of 16 for "grouped_stem".

    Raises:
        ValueError: another name, a size that is no pair, channels that the variant cannot have.
        TypeError: channels that are no int.
    """
    check_counts(input_channels=input_channels, output_channels=output_channels)
    name = _variant_name(variant)
    if name == "imagenet":
        return [_conv(input_channels, output_channels, 7, stride=2), *_norm_relu_pool(output_channels)]
    if name == "grouped_stem":
        return _grouped_stem(input_channels, output_channels)
    if name == "quicknet_stem":
        return _quicknet_stem(input_channels, output_channels)
    return [_conv(input_channels, output_channels, 3)]


def image_of(input_shape: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """Return the channels and the resolution of [batch, channels, height, width]; ValueError for another shape."""
    if len(input_shape) != 4 or min(input_shape[1:]) < 1:
        raise ValueError(
            "input_shape must be [batch, channels, height, width] with at least one of each, such as (1, 3, 32, 32), "
            f"got {tuple(input_shape)}"
        )
    _, channels, height, width = input_shape
    return channels, (height, width)


def classifier(features: int, num_classes: int) -> nn.Module:
    """Return the linear layer that gives num_classes logits; for 0 the net gives its features, and this is nothing."""
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


def _variant_name(variant: Sequence[int] | str | None) -> str:
    if variant is None:
        return "small"
    if isinstance(variant, str):
        if variant not in _NAMED:
            raise ValueError(f"variant must be one of {', '.join(_NAMED)}, or a pair of sides, got {variant!r}")
        return variant
    if len(variant) != 2:
        raise ValueError(f"variant must be (height, width) or one of {', '.join(_NAMED)}, got {tuple(variant)}")
    return "imagenet" if tuple(variant) == _LARGE_IMAGE else "small"


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def _norm_relu_pool(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]


def _grouped_stem(inputs: int, outputs: int) -> list[nn.Module]:
    if outputs % 16:
        raise ValueError(f"output_channels of a grouped_stem must be a multiple of 16 for its groups, got {outputs}")
    half = outputs // 2
    return [
        _conv(inputs, half, 3, stride=2),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        _conv(half, half, 3, groups=4),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        _conv(half, outputs, 3, groups=8),
        *_norm_relu_pool(outputs),
    ]


def _quicknet_stem(inputs: int, outputs: int) -> list[nn.Module]:
    if outputs % 4:
        raise ValueError(f"output_channels of a quicknet_stem must be a multiple of 4, got {outputs}")
    quarter = outputs // 4
    pad = (0, 1, 0, 1)  # right and bottom alone, as TensorFlow pads to the "same" size
    return [
        nn.ZeroPad2d(pad),
        nn.Conv2d(inputs, quarter, 3, stride=2, bias=False),
        nn.BatchNorm2d(quarter),
        nn.ReLU(),
        nn.ZeroPad2d(pad),
        nn.Conv2d(quarter, quarter, 3, stride=2, groups=quarter, bias=False),
        nn.BatchNorm2d(quarter),
        nn.Conv2d(quarter, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]
