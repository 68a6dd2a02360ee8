"""The networks that `networks.py` measures: architectures written elsewhere, random weights, settings by one rule.

The rule: everything between the first and the last layer has W-bit weights and A-bit activations of DoReFa's unit
ranges, depthwise layers and those of squeeze-and-excitation among them; the first and the last layer have 8 bits of
each. The SVHN net keeps its first and last layer in float32, as in the DoReFa paper.
"""

from __future__ import annotations

import torch
from torch import nn

import bitorch
from bitorch.models import build

#: ResNet-18 and the SVHN net are bitorch's own, the others torchvision's; timm has no SqueezeNet and no ShuffleNetV2.
ARCHITECTURES = {
    "resnet18": "resnet-18",
    "resnet50": "torchvision:resnet50",
    "mobilenetv2": "torchvision:mobilenet_v2",
    "efficientnet-b0": "torchvision:efficientnet_b0",
    "regnety-400mf": "torchvision:regnet_y_400mf",
    "squeezenet": "torchvision:squeezenet1_1",
    "shufflenetv2": "torchvision:shufflenet_v2_x1_0",
    "densenet121": "torchvision:densenet121",
    "vgg11": "torchvision:vgg11_bn",
    "svhn-a": "svhn-a",
    "vit-tiny": "timm:vit_tiny_patch16_224",
    "convnext-atto": "timm:convnext_atto",
    "mixer-s32": "timm:mixer_s32_224",
}
#: Of attention, normalisations and mixers of tokens.
TOKENS = ("vit-tiny", "convnext-atto", "mixer-s32")
NETS = tuple(ARCHITECTURES)
FLOAT_ENDS = ("svhn-a",)


def image_size(net: str) -> int:
    """Height and width."""
    return 40 if net == "svhn-a" else 224


def float_model(net: str) -> nn.Module:
    """The float32 network, of random weights that spread what is behind each BatchNorm, in eval mode."""
    torch.manual_seed(0)
    model = build(ARCHITECTURES[net], in_channels=3, num_classes=10 if net == "svhn-a" else 1000)
    awaken(model)
    settle(model, image_size(net))
    return model.requires_grad_(False)


def low_bit_config(net: str, weight_bits: int, activation_bits: int) -> bitorch.LowBitConfig:
    if net in FLOAT_ENDS:
        return bitorch.LowBitConfig(weight_bits=weight_bits, activation_bits=activation_bits)
    return bitorch.LowBitConfig(weight_bits=weight_bits, activation_bits=activation_bits, first=8, last=8)


def awaken(model: nn.Module) -> None:
    """Give random numbers to what begins at nothing: heads of zeros, and factors of residual branches near zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                nn.init.normal_(parameter, 0.3, 0.1)
            elif parameter.dim() > 1 and not parameter.any():
                nn.init.normal_(parameter, 0.0, 0.02)


def settle(model: nn.Module, size: int) -> None:
    """Give the batch norms the statistics of random images, and slopes that spread codes over their levels."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
            norm.reset_running_stats()
            nn.init.normal_(norm.weight, 0.3, 0.3)
            nn.init.normal_(norm.bias, 0.3, 0.2)
    with torch.no_grad():
        model.train()(torch.rand(2, 3, size, size))
    model.eval()
