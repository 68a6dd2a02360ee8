"""PyTorch's contestants: the float networks in channels-last memory, under inference_mode."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.models import SVHNNet
from layers_timing import NETWORK_SECONDS, Called, Contestant

FLOAT, BFLOAT = "PyTorch float32", "PyTorch bfloat16"


class ResNet18(nn.Module):
    """ResNet-18 for 224×224 images (arXiv 1512.03385), [B, 3, 224, 224] to [B, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks: list[nn.Module] = []
        channels = 64
        for width in (64, 128, 256, 512):
            blocks += [_Block(channels, width), _Block(width, width)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.blocks(self.stem(x)).mean((2, 3)))
        return scores


class _Block(nn.Module):
    """Two 3×3 convolutions and the shortcut; where channels change the image is halved."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if channels == width else 2
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def contestants(net: str, images: npt.NDArray[np.uint8], threads: int) -> list[Contestant]:
    """In float32 and bfloat16.

    Raises:
        RuntimeError: the scores are not those of float64.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = {"resnet18": ResNet18, "svhn-a": SVHNNet}[net]().eval().requires_grad_(False).double()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    with torch.inference_mode():
        expected = model(x)
    return [
        _contestant(FLOAT, model, x, torch.float32, expected, 1e-4),
        _contestant(BFLOAT, model, x, torch.bfloat16, expected, 5e-2),
    ]


def _contestant(
    name: str, model: nn.Module, x: Tensor, dtype: torch.dtype, expected: Tensor, tolerance: float
) -> Contestant:
    net = copy.deepcopy(model).to(dtype)
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    images = x.to(dtype=dtype, memory_format=torch.channels_last)

    def call() -> Tensor:
        with torch.inference_mode():
            scores: Tensor = net(images)
        return scores

    error = float((call().double() - expected).norm() / expected.norm())
    if not error < tolerance:
        raise RuntimeError(f"{name}: the scores are off by {error:.1e}")
    return Called(name, "", call, NETWORK_SECONDS)
