"""The networks as int8 engines run them: uint8 activations, int8 weights with a scale per channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

INPUT_SCALE = 1 / 255
TOP = 4.0
"""Activations behind a ReLU are quantized from 0 to TOP, others from -TOP to TOP."""
TOLERANCE = 0.1


@dataclass(frozen=True)
class Step:
    """A layer; `name` is also that of its output. A linear layer is a 1×1 convolution of the mean."""

    kind: Literal["conv", "max_pool", "mean"]
    name: str
    input: str
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    relu: bool = True
    residual: str | None = None
    """Added before the ReLU."""
    weight: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.int8))
    """[N, C, h, w]"""
    scale: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """[N], of the weights"""
    bias: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass
class Int8Net:
    """Steps with random weights; the last gives the scores, which stay float32."""

    size: int
    rng: np.random.Generator
    steps: list[Step] = field(default_factory=list)

    def conv(
        self,
        name: str,
        input_: str,
        shape: tuple[int, int, int],
        stride: int = 1,
        padding: int = 0,
        relu: bool = True,
        residual: str | None = None,
    ) -> str:
        """Shape: output channels, input channels, kernel size."""
        n, c, kernel = shape
        weight = self.rng.integers(-127, 127, (n, c, kernel, kernel), np.int8, endpoint=True)
        spread = 0.4 / (73 * np.sqrt(c * kernel**2))  # of the sum, for inputs of about 1
        scale = (spread * self.rng.uniform(0.5, 1.5, n)).astype(np.float32)
        bias = self.rng.uniform(0, 0.4, n).astype(np.float32)
        self.steps.append(Step("conv", name, input_, kernel, stride, padding, relu, residual, weight, scale, bias))
        return name

    def max_pool(self, name: str, input_: str, kernel: int, stride: int, padding: int) -> str:
        self.steps.append(Step("max_pool", name, input_, kernel, stride, padding))
        return name

    def mean(self, name: str, input_: str) -> str:
        self.steps.append(Step("mean", name, input_))
        return name

    def expected(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """[batch, scores] of uint8 images [batch, H, W, C], the same net without quantized activations."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2).double() * INPUT_SCALE
        tensors = {"image": x}
        for step in self.steps:
            x = tensors[step.input]
            if step.kind == "mean":
                x = x.mean((2, 3), keepdim=True)
            elif step.kind == "max_pool":
                x = F.max_pool2d(x, step.kernel, step.stride, step.padding)
            else:
                weight = torch.from_numpy(step.weight * step.scale[:, None, None, None]).double()
                x = F.conv2d(x, weight, torch.from_numpy(step.bias).double(), step.stride, step.padding)
                x = x if step.residual is None else x + tensors[step.residual]
                x = x.clamp(0, TOP) if step.relu else x
            tensors[step.name] = x
        scores: npt.NDArray[np.float64] = x.flatten(1).numpy()
        return scores

    def check(self, engine: str, images: npt.NDArray[np.uint8], scores: npt.NDArray[np.float32]) -> None:
        """
        Raises:
            RuntimeError: the scores are further from `expected` than 8-bit activations explain.
        """
        expected = self.expected(images)
        spread = np.linalg.norm(expected - expected.mean(1, keepdims=True))
        error = np.linalg.norm(scores.reshape(expected.shape) - expected) / spread
        if not error < TOLERANCE:
            raise RuntimeError(f"{engine}: the scores are off by {error:.0%} of their spread")


def int8_net(net: str, rng: np.random.Generator) -> Int8Net:
    """ "resnet18" or "svhn-a"."""
    return {"resnet18": _resnet18, "svhn-a": _svhn_a}[net](rng)


def _resnet18(rng: np.random.Generator) -> Int8Net:
    net = Int8Net(224, rng)
    name = net.max_pool("pool", net.conv("stem", "image", (64, 3, 7), 2, 3), 3, 2, 1)
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride, prefix, residual = (2 if width > channels else 1), f"layer{stage + 1}.{block}", name
            first = net.conv(f"{prefix}.conv1", name, (width, channels, 3), stride, 1)
            if stride > 1:
                residual = net.conv(f"{prefix}.downsample", name, (width, channels, 1), stride, relu=False)
            name = net.conv(f"{prefix}.conv2", first, (width, width, 3), 1, 1, residual=residual)
            channels = width
    net.conv("scores", net.mean("mean", name), (1000, 512, 1), relu=False)
    return net


def _svhn_a(rng: np.random.Generator) -> Int8Net:
    net = Int8Net(40, rng)
    name = net.max_pool("pool1", net.conv("conv1", "image", (48, 3, 5)), 2, 2, 0)
    name = net.conv("conv2", name, (64, 48, 3), 1, 1)
    name = net.max_pool("pool3", net.conv("conv3", name, (64, 64, 3), 1, 1), 2, 2, 0)
    name = net.conv("conv4", name, (128, 64, 3))
    name = net.conv("conv5", name, (128, 128, 3), 1, 1)
    name = net.conv("conv6", name, (128, 128, 3))
    name = net.conv("conv7", name, (512, 128, 5))
    net.conv("scores", name, (10, 512, 1), relu=False)
    return net
