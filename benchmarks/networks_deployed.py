"""The networks as `bitorch.deploy` makes them, with random weights: packed files, verified against their models."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import bitorch
import bitorch_runtime
from bitorch.models import ResNet18, SVHNNet

#: 1-bit weights and 2-bit activations within; the ends of ResNet-18 at 8 bits, those of the SVHN net in float32.
CONFIGS = {
    "resnet18": bitorch.LowBitConfig(weight_bits=1, activation_bits=2, first=8, last=8),
    "svhn-a": bitorch.LowBitConfig(weight_bits=1, activation_bits=2),
}


def float_model(net: str) -> nn.Module:
    """The float32 network, of random weights, in eval mode."""
    torch.manual_seed(0)
    model: nn.Module = {"resnet18": ResNet18, "svhn-a": SVHNNet}[net]()
    return model.eval().requires_grad_(False)


def deployed(net: str, image_size: int) -> tuple[bitorch_runtime.Model, int]:
    """The packed network, read from its file, and the bytes of the file. It takes uint8 pixels, NCHW.

    Raises:
        bitorch.DeploymentError: its numbers are not the model's.
    """
    model = float_model(net)
    bitorch.quantize_(model, CONFIGS[net])
    example = torch.rand(2, 3, image_size, image_size)
    _settle(model, example)
    packed = bitorch.deploy(model, example[:1], pixels=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.bit.safetensors"
        packed.save(path)
        return bitorch_runtime.load(path), packed.nbytes


def _settle(model: nn.Module, example: torch.Tensor) -> None:
    """Give the batch norms the statistics of the example, and slopes that spread the codes over their levels."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
            nn.init.normal_(norm.weight, 0.3, 0.3)
            nn.init.normal_(norm.bias, 0.3, 0.2)
    with torch.no_grad():
        model.train()(example)
    model.eval()
