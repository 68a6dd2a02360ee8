"""Random low-bit nets: everything that deployment has to get right, in small."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitorch.layers import QActivation, QConv1d, QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, Quantization, Sign, SteHeaviside, WeightDoReFa

CHANNELS = (1, 2, 3, 5, 8, 16, 31, 32, 33, 40, 64, 65)
SMALL = (1, 2, 3, 4, 8, 12)


class Block(nn.Module):
    """A quantized convolution with what may follow it, and perhaps a shortcut."""

    def __init__(self, rng: random.Random, channels: int, size: int) -> None:
        super().__init__()
        groups = rng.choice([g for g in (1, 1, 1, 2, 4, channels) if channels % g == 0])
        self.residual = groups == 1 and rng.random() < 0.35
        self.out_channels = channels if self.residual else groups * rng.choice(SMALL if groups > 1 else CHANNELS)
        kernel = rng.choice([k for k in (1, 2, 3, 3, 5) if k <= size])
        odd = kernel % 2 == 1
        padding = kernel // 2 if self.residual and odd else rng.choice([0, kernel // 2])
        if self.residual and not odd:
            kernel, padding = 1, 0
        stride = 1 if self.residual else rng.choice((1, 1, 2))
        dilation = 2 if not self.residual and rng.random() < 0.15 and 2 * (kernel - 1) < size else 1
        self.conv = QConv2d(
            channels,
            self.out_channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=rng.random() < 0.3,
            padding_mode=rng.choice(("zeros", "zeros", "zeros", "replicate", "circular"))
            if padding < size
            else "zeros",
            input_quantization=quantizer(rng),
            weight_quantization=WeightDoReFa(rng.randint(1, 8), variant=rng.choice(("paper", "bitorch"))),
        )
        self.norm = nn.BatchNorm2d(self.out_channels) if rng.random() < 0.8 else None
        self.norm_first = rng.random() < 0.7
        self.act = rng.choice(
            [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(), nn.LeakyReLU(0.1), nn.PReLU(), nn.Hardswish()]
            + [nn.Identity()] * 3
        )
        self.pool: nn.Module = nn.Identity()
        self.size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if self.size >= 4 and rng.random() < 0.4:
            window, border = rng.choice([(2, 0), (3, 1)])
            self.pool = rng.choice([nn.MaxPool2d, nn.AvgPool2d])(window, 2, border)
            self.size = (self.size + 2 * border - window) // 2 + 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if self.norm_first and self.norm is not None:
            y = self.norm(y)
        if self.residual and y.shape == x.shape:
            y = y + x
        y = self.act(y)
        if not self.norm_first and self.norm is not None:
            y = self.norm(y)
        pooled: Tensor = self.pool(y)
        return pooled


class RandomNet(nn.Module):
    """A few blocks and a linear end, float or low-bit, over images of some channels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.in_channels = rng.choice((1, 3, 4))
        self.image_size = size = rng.choice((5, 8, 9, 12))
        channels = rng.choice(CHANNELS)
        first: nn.Module = nn.Conv2d(self.in_channels, channels, 3, padding=1)
        if rng.random() < 0.6:
            first = QConv2d(
                self.in_channels,
                channels,
                3,
                padding=1,
                input_quantization=InputDoReFa(8, variant="paper"),
                weight_quantization=WeightDoReFa(8, variant="paper"),
            )
        self.first = nn.Sequential(first, nn.BatchNorm2d(channels))
        blocks = []
        for _ in range(rng.randint(1, 4)):
            block = Block(rng, channels, size)
            blocks.append(block)
            channels, size = block.out_channels, block.size
        self.blocks = nn.Sequential(*blocks)
        self.middle = nn.Sequential(QActivation(quantizer(rng))) if rng.random() < 0.15 else nn.Identity()
        self.end = rng.choice(
            ["flatten", "mean", "adaptive"] if channels * size * size < 8000 else ["mean", "adaptive"]
        )
        self.pooled = rng.choice((1, 2, 3)) if self.end == "adaptive" else 1
        features = channels * size * size if self.end == "flatten" else channels * self.pooled**2
        self.hidden = QLinear(
            features,
            17,
            bias=rng.random() < 0.5,
            input_quantization=quantizer(rng),
            weight_quantization=WeightDoReFa(rng.randint(1, 8), variant="paper"),
        )
        self.norm = nn.BatchNorm1d(17)
        self.last = nn.Linear(17, 5)
        self._settle(rng)

    def _settle(self, rng: random.Random) -> None:
        """Give the batch norms statistics that spread the codes, and slopes that are negative or zero too."""
        norms = [m for m in self.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        for norm in norms:
            norm.momentum = None
            slopes = torch.randn(norm.num_features) * 0.6
            slopes[torch.rand(norm.num_features) < 0.1] = 0.0
            norm.weight.data.copy_(slopes if rng.random() < 0.8 else slopes.abs())
            norm.bias.data.normal_(0.4, 0.4)
        self.train()
        with torch.no_grad():
            for _ in range(2):
                self(torch.rand(4, self.in_channels, self.image_size, self.image_size))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.blocks(self.first(x)))
        if self.end == "flatten":
            x = x.flatten(1)
        elif self.end == "mean":
            x = x.mean((2, 3))
        else:
            x = torch.flatten(nn.functional.adaptive_avg_pool2d(x, self.pooled), 1)
        scores: Tensor = self.last(torch.relu(self.norm(self.hidden(x))))
        return scores


class RandomGraph(nn.Module):
    """Steps that read any tensor before them: branches, shared layers, several inputs, outputs given twice."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        size = rng.choice((1, 4, 6))
        self.shapes = [(rng.choice((2, 4, 8)), size, size) for _ in range(rng.choice((1, 1, 1, 2)))]
        self.in_shapes = list(self.shapes)
        self.steps: list[tuple[str, tuple[int, ...], Any]] = []
        self.layers = nn.ModuleList()
        self._low_bit(rng, 0)
        for _ in range(rng.randint(4, 14)):
            self._step(rng, rng.randrange(len(self.shapes)) if rng.random() < 0.5 else len(self.shapes) - 1)
        read = {i for _, inputs, _ in self.steps for i in inputs}
        ends = [i for i in range(len(self.in_shapes), len(self.shapes)) if i not in read]  # the last one is
        self.ends = ends[-3:] + ([rng.randrange(len(self.shapes))] if rng.random() < 0.3 else [])
        self._settle()

    def _add(self, kind: str, inputs: tuple[int, ...], argument: Any, shape: tuple[int, int, int]) -> None:
        self.steps.append((kind, inputs, argument))
        self.shapes.append(shape)

    def _layer(self, layer: nn.Module, i: int, shape: tuple[int, int, int]) -> None:
        self.layers.append(layer)
        self._add("layer", (i,), len(self.layers) - 1, shape)

    def _low_bit(self, rng: random.Random, i: int) -> None:
        channels, height, width = self.shapes[i]
        kernel = rng.choice((1, 3))
        layer = QConv2d(
            channels,
            rng.choice((channels, channels, 4, 8)),
            kernel,
            padding=kernel // 2,
            bias=rng.random() < 0.3,
            pad_value=rng.choice((None, 0.0, 1.0)),
            input_quantization=quantizer(rng),
            weight_quantization=WeightDoReFa(rng.choice((1, 1, 2, 4)), variant="paper"),
        )
        self._layer(layer, i, (layer.out_channels, height, width))

    def _step(self, rng: random.Random, i: int) -> None:
        channels, height, width = shape = self.shapes[i]
        alike = [j for j, other in enumerate(self.shapes) if other == shape]
        match rng.choice(("low_bit",) * 4 + ("add",) * 3 + ("norm", "act") * 2 + _OTHER_STEPS):
            case "low_bit":
                self._low_bit(rng, i)
            case "norm":
                self._layer(nn.BatchNorm2d(channels), i, shape)
            case "act":
                slopes = [nn.LeakyReLU(slope) for slope in (0.1, 0.0, 1.0, -0.5)]
                others = [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.PReLU(channels), nn.Hardswish(), nn.Sigmoid()]
                self._layer(rng.choice([*slopes, *others, *others]), i, shape)
            case "add" | "mul" as kind:
                self._add(kind, (i, rng.choice(alike)), None, shape)
            case "concat":
                images = [j for j, other in enumerate(self.shapes) if other[1:] == shape[1:]]
                chosen = (i, *rng.choices(images, k=rng.choice((1, 2))))
                self._add("concat", chosen, None, (sum(self.shapes[j][0] for j in chosen), height, width))
            case "chunk" if channels % 2 == 0:
                self._add("chunk", (i,), rng.choice((0, 1)), (channels // 2, height, width))
            case "shuffle":
                self._layer(nn.ChannelShuffle(2 if channels % 2 == 0 else channels), i, shape)
            case "pool":
                pool = rng.choice([nn.MaxPool2d, nn.AvgPool2d])(3, 1, 1)
                self._layer(pool, i, shape)
            case "quantizer":
                self._layer(QActivation(quantizer(rng)), i, shape)
            case "constant":
                self._add("constant", (i,), rng.choice(sorted(CONSTANTS)), shape)
            case "float":
                self._layer(nn.Conv2d(channels, 4, 1), i, (4, height, width))
            case "pad":
                layers = [nn.ZeroPad2d(1), nn.ReplicationPad2d(1), nn.ConstantPad2d(1, 0.4)]
                self._layer(rng.choice(layers), i, (channels, height + 2, width + 2))
            case "shared":
                fitting = [
                    (j, layer)
                    for j, layer in enumerate(self.layers)
                    if isinstance(layer, QConv2d) and layer.in_channels == channels
                ]
                if fitting:
                    j, layer = rng.choice(fitting)
                    self._add("layer", (i,), j, (layer.out_channels, height, width))

    def _settle(self) -> None:
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = None
                slopes = torch.randn(norm.num_features) * 0.6
                slopes[torch.rand(norm.num_features) < 0.15] = 0.0
                norm.weight.data.copy_(slopes)
                norm.bias.data.normal_(0.4, 0.4)
        self.train()
        with torch.no_grad():
            for _ in range(2):
                self(*self.example(4))
        self.eval()

    def example(self, batch: int) -> list[Tensor]:
        """Random inputs."""
        return [torch.rand(batch, *shape) for shape in self.in_shapes]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = list(inputs)
        for kind, names, argument in self.steps:
            x = [values[i] for i in names]
            match kind:
                case "layer":
                    values.append(self.layers[argument](x[0]))
                case "add":
                    values.append(x[0] + x[1])
                case "mul":
                    values.append(x[0] * x[1])
                case "concat":
                    values.append(torch.cat(x, 1))
                case "chunk":
                    values.append(x[0].chunk(2, 1)[argument].contiguous())
                case _:
                    values.append(CONSTANTS[argument](x[0]))
        return tuple(values[i] for i in self.ends)


_OTHER_STEPS = ("mul", "concat", "chunk", "shuffle", "pool", "quantizer", "constant", "float", "pad", "shared")
CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plus": lambda x: x + 0.3,
    "times": lambda x: x * 0.5,
    "times negative": lambda x: x * -1.5,
    "divided": lambda x: x / 2.0,
    "divided by negative": lambda x: x / -3.0,
    "from": lambda x: 1.0 - x,
    "negative": lambda x: -x,
    "low": lambda x: x.clamp(min=0.2),
    "high": lambda x: x.clamp(max=0.7),
    "crossed": lambda x: x.clamp(0.9, 0.1),
}


def quantizer(rng: random.Random) -> Quantization:
    """An activation quantizer, now and then one of ±1."""
    if rng.random() < 0.2:
        return rng.choice([Sign(), SteHeaviside()])
    return InputDoReFa(rng.randint(1, 8), variant=rng.choice(("paper", "bitorch")))


class SignalNet(nn.Module):
    """Convolutions in one dimension."""

    def __init__(self, bits: tuple[int, int]) -> None:
        super().__init__()
        weight, activation = bits
        self.layers = nn.Sequential(
            nn.Conv1d(2, 12, 5, padding=2),
            nn.BatchNorm1d(12),
            nn.MaxPool1d(2),
            QConv1d(
                12,
                20,
                3,
                stride=2,
                padding="valid",
                input_quantization=InputDoReFa(activation, variant="paper"),
                weight_quantization=WeightDoReFa(weight, variant="paper"),
            ),
            nn.BatchNorm1d(20),
            nn.ReLU(),
            QConv1d(
                20,
                4,
                4,
                padding="same",
                input_quantization=InputDoReFa(activation, variant="paper"),
                weight_quantization=WeightDoReFa(weight, variant="paper"),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
