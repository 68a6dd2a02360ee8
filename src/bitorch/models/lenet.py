"""BITorch's LeNet: two convolutions and a hidden linear layer, for the MNIST family."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from ..layers import QActivation, QConv2d, QLinear
from .base import Model
from .common_layers import classifier, image_of

#: Quantizers of weights and of inputs, by version. Two and three are one net, under the two numbers that BITorch has.
_QUANTIZERS = {
    0: ("sign", "sign"),
    1: ("weightdorefa", "weightdorefa"),
    2: ("sign", "weightdorefa"),
    3: ("sign", "weightdorefa"),
}


class LeNet(Model):
    """A float 5×5 convolution, a low-bit one, a hidden low-bit linear layer and a float classifier.

    1.1 million parameters for 28×28. Versions: 0 has signs for weights and inputs; 1 WeightDoReFa for both, of
    `bitorch.quantizations.config.config.dorefa_bits`; 2 and 3 signs for weights and WeightDoReFa for inputs; any other
    number is the float net. What the linear layer reads is quantized as the version says, and once more as
    `bitorch.layers.config.config` does.

    Args:
        input_shape: [batch, channels, height, width], sides of at least 16; the MNIST family has [batch, 1, 28, 28].
        num_classes: number of logits; 0 leaves the classifier out.
        lenet_version: 0 to 3, or another number for the float net.

    Shapes: float [B, channels, height, width] to logits [B, num_classes].

    Raises:
        ValueError: sides below 16, another shape.
    """

    name = "LeNet"
    _default_arguments = ((1, 1, 28, 28), 10)
    num_channels_conv: ClassVar[int] = 64
    num_fc: ClassVar[int] = 1000
    activation_function: ClassVar[type[nn.Module]] = nn.Tanh

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0, lenet_version: int = 0) -> None:
        super().__init__(input_shape, num_classes)
        self.input_channels, resolution = image_of(self._input_shape)
        self.num_output = num_classes
        height, width = (_side_behind_pools(side) for side in resolution)
        if min(height, width) < 1:
            raise ValueError(
                f"LeNet takes images of at least 16×16, got input_shape={self._input_shape}; for 8×8 "
                "there is LeNet8, by name lenet-8"
            )
        features = self.num_channels_conv * height * width
        if lenet_version in _QUANTIZERS:
            layers = self._low_bit_layers(features, *_QUANTIZERS[lenet_version])
        else:
            layers = self._float_layers(features)
        self._model = nn.Sequential(*layers, nn.BatchNorm1d(self.num_fc), self.activation_function(), self._last())

    def _low_bit_layers(self, features: int, weight: str, inputs: str) -> list[nn.Module]:
        channels = self.num_channels_conv
        return [
            nn.Conv2d(self.input_channels, channels, 5),
            self.activation_function(),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(channels),
            QConv2d(channels, channels, 5, weight_quantization=weight, input_quantization=inputs),
            nn.BatchNorm2d(channels),
            nn.MaxPool2d(2),
            nn.Identity(),  # BITorch prints the shape here; without it the keys behind would have other numbers
            nn.Flatten(),
            QActivation(inputs),
            QLinear(features, self.num_fc, weight_quantization=weight),
        ]

    def _float_layers(self, features: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for inputs in (self.input_channels, self.num_channels_conv):
            layers += [
                nn.Conv2d(inputs, self.num_channels_conv, 5),
                nn.BatchNorm2d(self.num_channels_conv),
                self.activation_function(),
                nn.MaxPool2d(2),
            ]
        return [*layers, nn.Flatten(), nn.Linear(features, self.num_fc)]

    def _last(self) -> nn.Module:
        return classifier(self.num_fc, self._num_classes)

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add --version, which becomes lenet_version."""
        parser.add_argument(
            "--version", type=int, default=0, dest="lenet_version", help="0 to 3, or another number for the float net"
        )


def _side_behind_pools(side: int) -> int:
    """Return what two 5×5 convolutions, each with a pool of 2 behind it, leave of a side."""
    return ((side - 4) // 2 - 4) // 2
