"""The nets that training.py trains, from a convolution of choice. Imports torch alone, but for our own ResNet-18."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from svhn_a import IMAGE_SIZE, MakeConv, svhn_a

CLASSES = 10


@dataclass(frozen=True)
class Net:
    """A net that is trained.

    Attributes:
        title: as tables have it.
        image_size: height and width of its colour images.
        build: makes it from a convolution of choice and from whether ReLUs stand behind blocks.
        rounds: steps that are counted, where the options do not say.
    """

    title: str
    image_size: int
    build: Callable[[MakeConv, bool], nn.Module]
    rounds: int


def vgg_small(make_conv: MakeConv, relu: bool) -> nn.Sequential:
    """Six 3×3 convolutions of 128, 256 and 512 channels for 32×32 images: the VGG of few-bit papers."""
    channels = ((3, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(channels):
        first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [make_conv(inputs, outputs, 3, 1) if number else first, nn.BatchNorm2d(outputs)]
        layers += [nn.MaxPool2d(2)] * (number % 2) + [nn.ReLU()] * relu
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 4 * 4, CLASSES))


def resnet18(make_conv: MakeConv, relu: bool) -> nn.Module:
    """ResNet-18 of the paper, which makes its convolutions itself."""
    from bitorch.models import ResNet18

    return ResNet18(num_classes=CLASSES)


def small_resnet18(make_conv: MakeConv, relu: bool) -> nn.Module:
    """ResNet-18 as small images have it: a 3×3 convolution of stride 1 in front, and no max-pooling behind it."""
    from bitorch.models import ResNet18

    net = ResNet18(num_classes=CLASSES)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()  # type: ignore[assignment]  # nothing takes its place
    return net


NETS = {
    "svhn-a": Net("SVHN net A, 40×40", IMAGE_SIZE, svhn_a, 25),
    "resnet18-32": Net("ResNet-18 with a 3×3 stem, 32×32", 32, small_resnet18, 8),
    "resnet18-64": Net("ResNet-18, 64×64", 64, resnet18, 10),
    "vgg-small": Net("VGG-small, 32×32", 32, vgg_small, 8),
}
