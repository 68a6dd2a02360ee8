"""The layers that `layers.py` measures, and random data for each that looks like a trained network's."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LAYERS = (
    # ResNet-18 at 224×224
    "3x3-64@56",
    "3x3-128@28",
    "3x3-256@14",
    "3x3-512@7",
    "3x3s2-64-128@56",
    "3x3s2-128-256@28",
    # ResNet-20 on CIFAR-10
    "3x3-16@32",
    "3x3-32@16",
    "3x3-64@8",
    # first and last layer of ResNet-18, float32 as a rule
    "7x7s2-3-64@224",
    "linear-512-1000@1",
    # bottlenecks, depthwise and linear layers
    "1x1-64-256@56",
    "1x1-256-64@56",
    "1x1-512@7",
    "dw3x3-128@28",
    "linear-4096@1",
    "linear-4096@64",
)
QUICK_LAYERS = ("3x3-64@56", "3x3-256@14", "1x1-256-64@56", "linear-4096@1")
WIDTHS = (1, 2, 3, 4, 8)
QUICK_BITS = ("W1A1", "W1A1±", "W1A2", "W2A2", "W4A4", "W8A8")


@dataclass(frozen=True)
class Layer:
    """A layer by its name, as LAYERS has them.

    `3x3s2-64-128@56` is a convolution with a 3×3 kernel, stride 2 (left out: 1), 64 input and 128 output channels (one
    number: both), on one image of 56×56 pixels, padded by half the kernel; `dw3x3-128@28` is a depthwise one;
    `linear-4096@64` is a linear layer on 64 vectors.
    """

    name: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    size: int
    groups: int
    batch: int
    linear: bool

    @classmethod
    def parse(cls, name: str) -> Layer:
        match = re.fullmatch(r"(?:(dw)?(\d+)x(\d+)(?:s(\d+))?|(linear))-(\d+)(?:-(\d+))?@(\d+)", name)
        if match is None:
            raise ValueError(
                f"{name!r} is not the name of a layer, such as 3x3-64@56, 3x3s2-64-128@56, dw3x3-128@28, linear-4096@1"
            )
        depthwise, height, width, stride, linear, c, n, size = match.groups()
        numbers = [int(text) for text in (height, stride, c, n, size) if text is not None]
        if 0 in numbers or height != width or (height is not None and int(height) % 2 == 0):
            raise ValueError(f"layer {name!r}: sizes are at least 1, and kernels square and odd")
        if depthwise is not None and n not in (None, c):
            raise ValueError(f"layer {name!r}: a depthwise layer has as many output as input channels")
        return cls(
            name=name,
            kernel=1 if height is None else int(height),
            stride=1 if stride is None else int(stride),
            in_channels=int(c),
            out_channels=int(c if n is None else n),
            size=1 if linear is not None else int(size),
            groups=1 if depthwise is None else int(c),
            batch=int(size) if linear is not None else 1,
            linear=linear is not None,
        )

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def out_size(self) -> int:
        return (self.size - 1) // self.stride + 1  # padded by half of an odd kernel

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[N, C/groups, kh, kw], or [N, F]."""
        if self.linear:
            return self.out_channels, self.in_channels
        return self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[batch, H, W, C], or [batch, F]."""
        return (self.batch, self.in_channels) if self.linear else (self.batch, self.size, self.size, self.in_channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[batch, H, W, N], or [batch, N]."""
        if self.linear:
            return self.batch, self.out_channels
        return self.batch, self.out_size, self.out_size, self.out_channels

    @property
    def inputs_per_output(self) -> int:
        return self.kernel**2 * self.in_channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole batch, products with padding included."""
        return self.batch * self.out_size**2 * self.out_channels * self.inputs_per_output


@dataclass(frozen=True)
class Bits:
    """Widths of weights and activations; `W1A1±` has activations -1 and +1, every other activations 0 … 1."""

    weight: int
    activation: int
    sign: bool = False

    @classmethod
    def parse(cls, name: str) -> Bits:
        match = re.fullmatch(r"W([1-8])A([1-8])(±?)", name)
        if match is None or (match[3] and match[2] != "1"):
            raise ValueError(f"{name!r} is not a pair of bit widths; it is written like W1A2, W8A8 or W1A1±")
        return cls(int(match[1]), int(match[2]), bool(match[3]))

    def __str__(self) -> str:
        return f"W{self.weight}A{self.activation}{'±' * self.sign}"

    @property
    def weight_levels(self) -> int:
        """n: weight codes are the odd integers from -n to n."""
        return (1 << self.weight) - 1

    @property
    def activation_levels(self) -> int:
        """n: activation codes are 0 … n."""
        return (1 << self.activation) - 1


def bits_of(layer: Layer) -> list[Bits]:
    """What is measured unless the command line says otherwise."""
    grid = [Bits(w, a) for w in WIDTHS for a in WIDTHS]
    if layer.linear and layer.batch == 1:
        grid += [Bits(1, a) for a in range(1, 9) if a not in WIDTHS]
    return [Bits(1, 1, sign=True), *sorted(grid, key=lambda bits: (bits.weight, bits.activation))]


@dataclass(frozen=True)
class Problem:
    """A layer with its data."""

    layer: Layer
    bits: Bits
    weights: npt.NDArray[np.int16]
    """Odd codes -n … n, of layer.weight_shape."""
    inputs: npt.NDArray[np.uint8]
    """Codes 0 … n, of layer.input_shape."""
    thresholds: npt.NDArray[np.int32]
    """[N, n] of the integer sums."""
    descending: npt.NDArray[np.bool_]
    """[N]: where a larger sum gives a smaller code."""

    @classmethod
    def random(cls, layer: Layer, bits: Bits, rng: np.random.Generator) -> Problem:
        weights = (
            2 * rng.integers(0, bits.weight_levels, layer.weight_shape, endpoint=True) - bits.weight_levels
        ).astype(np.int16)
        inputs = rng.integers(0, bits.activation_levels, layer.input_shape, dtype=np.uint8, endpoint=True)
        multiply, offset = _batch_norm(weights, bits, rng)
        bound = layer.inputs_per_output * bits.weight_levels * bits.activation_levels
        descending = multiply < 0
        thresholds = code_thresholds(np.abs(multiply), offset, bits.activation_levels, bound)
        thresholds[descending] *= -1
        return cls(layer, bits, weights, inputs, thresholds, descending)


def _batch_norm(
    weights: npt.NDArray[np.int16], bits: Bits, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """y = sum * multiply + offset of a BatchNorm that fits the weights, [N] each; one slope in 16 is negative."""
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    n = bits.activation_levels
    mean, variance = (0.0, 1.0) if bits.sign else (n / 2, n * (n + 2) / 12)  # of a uniformly random code
    deviation = np.sqrt((rows**2).sum(1) * variance)
    slope = rng.uniform(0.2, 0.6, len(rows)) * np.where(rng.random(len(rows)) < 1 / 16, -1, 1)
    shift = rng.uniform(0.2, 0.8, len(rows))
    multiply = slope / deviation
    return multiply.astype(np.float32), (shift - rows.sum(1) * mean * multiply).astype(np.float32)


def code_thresholds(
    multiply: npt.NDArray[np.float32], offset: npt.NDArray[np.float32], levels: int, bound: int
) -> npt.NDArray[np.int32]:
    """The smallest integer sum whose code is at least j, by the layer's own float32 arithmetic: [N, levels]."""
    low = np.full((len(multiply), levels), -bound - 1, np.int64)  # every code below is too small
    high = np.full_like(low, bound + 1)
    code = np.arange(1, levels + 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        y = middle.astype(np.float32) * multiply[:, None] + offset[:, None]
        reached = np.rint(np.float32(levels) * np.clip(y, 0, 1)) >= code
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return high.astype(np.int32)
