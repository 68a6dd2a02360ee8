"""The nets whose programs are kept as text: every architecture, and what none of them has.

Nothing in them is random, nor computed by a function whose last bits differ between libraries: weights are dyadic
numbers, all below 1 and none of them 0, statistics of BatchNorms are powers of two, steps and zero points are set. So
the form of a program depends on the passes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.layers import Attention, QActivation
from bitorch.models import build
from bitorch.quantizations import InputDoReFa, Sign

Slopes = Literal["rising", "both"]


@dataclass(frozen=True, eq=False)
class Setting:
    """Bits and quantizers, and the slopes of BatchNorms: all positive, or negative in every third channel."""

    name: str
    config: dict[str, Any]
    slopes: Slopes
    pixels: bool = False


#: ±1 and XNOR between float ends, padding with zeros, which are no code.
SIGN = Setting("W1A1", {"weight_bits": 1, "activation_bits": 1, "sign": "sign"}, "rising")
#: DoReFa-Net from pixels to scores; all of it integers, but for the scale of D.
UNIT = Setting("W1A2", {"weight_bits": 1, "activation_bits": 2, "first": 8, "last": 8}, "both", pixels=True)
#: Steps and zero points, weights of a signed grid, scales of each channel.
OFFSET = Setting(
    "W4A4",
    {"weight_bits": 4, "activation_bits": 4, "range": "learned", "learned_by": "lsq+", "weight_scale": "channel"},
    "both",
)
#: Too many levels for thresholds.
WIDE = Setting("W8A8", {"weight_bits": 8, "activation_bits": 8, "range": "calibrated", "last": "same"}, "rising")
#: And the products of attention on codes.
ATTENTION = Setting("W1A2", {"weight_bits": 1, "activation_bits": 2, "attention_bits": 2}, "rising")
TERNARY = Setting("W2A2", {"weight_bits": 2, "activation_bits": 2, "weights": "twn", "first": "same"}, "rising")

#: Tables of codes and of floats.
WORDS = Setting("W1A2", {"weight_bits": 1, "activation_bits": 2}, "rising")


@dataclass(frozen=True, eq=False)
class Golden:
    """A net in a setting.

    Attributes:
        shapes: of one image of each input.
        exact: every float in it is computed by elementwise operations of IEEE arithmetic, so that its results are the
            same numbers everywhere; they are kept, too.
        indices: how many indices there are, of nets that take these; 0: floats.
    """

    net: str
    build: Callable[[], nn.Module] = field(repr=False)
    shapes: tuple[tuple[int, ...], ...]
    setting: Setting
    exact: bool = False
    indices: int = 0

    @property
    def name(self) -> str:
        return f"{self.net}.{self.setting.name}"

    def model(self) -> nn.Module:
        """The net, in eval mode, always with the same numbers."""
        model = self.build()
        bitorch.quantize_(model, bitorch.LowBitConfig(**self.setting.config))
        return settled(model, self.setting.slopes)

    def example(self) -> list[Tensor]:
        if self.indices > 0:
            return [torch.arange(2 * _size(shape)).reshape(2, *shape) * 7 % self.indices for shape in self.shapes]
        return [numbers(2 * _size(shape), seed).reshape(2, *shape).abs() for seed, shape in enumerate(self.shapes)]


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def numbers(count: int, seed: int) -> Tensor:
    """Odd multiples of 1/256 between −1/2 and 1/2, in no order."""
    index = torch.arange(count, dtype=torch.int64) + 7919 * (seed + 1)
    scattered = (index * 2654435761 % 2**32) >> 16
    return (2 * (scattered % 128) - 127).float() / 256


#: The numbers of quantizers: steps, a zero point of 4 in front of an input's, a range from 0 to 2.
_OF_QUANTIZERS = {
    "activation_function.step": 1 / 8,
    "weight_quantization.step": 1 / 16,
    "activation_function.offset": -1 / 2,
    "activation_function.range_width": 2.0,
    "activation_function.range_zero": 0.0,
}


def settled(model: nn.Module, slopes: Slopes) -> nn.Module:
    """Set every number of a model; see the module."""
    state = model.state_dict()
    for seed, (name, value) in enumerate([*model.named_parameters(), *model.named_buffers()]):
        path, _, what = name.rpartition(".")
        of_quantizer = f"{path.rpartition('.')[2]}.{what}"
        if of_quantizer in _OF_QUANTIZERS:
            state[name] = torch.full_like(value, _OF_QUANTIZERS[of_quantizer])
        elif what == "range_bits":
            state[name] = value
        elif what in ("weight", "bias"):
            state[name] = numbers(value.numel(), seed).reshape(value.shape)
    model.load_state_dict(state)
    for seed, norm in enumerate(model.modules()):
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            _settle(norm, slopes, seed)
        if isinstance(norm, nn.PReLU):
            norm.weight.data.abs_()
    return model.eval()


def _settle(norm: nn.modules.batchnorm._BatchNorm, slopes: Slopes, seed: int) -> None:
    channels = torch.arange(norm.num_features)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.eps = 0.0
    norm.running_mean.copy_(numbers(len(channels), seed))
    norm.running_var.copy_(4.0 ** (channels % 3))
    with torch.no_grad():
        norm.weight.copy_(2.0 ** -(channels % 2))
        norm.bias.copy_(numbers(len(channels), seed + 1) + 0.5)
        if slopes == "both":
            norm.weight[2::3].neg_()


class Gates(nn.Module):
    """Squeeze and excitation, hardswish, and a gate of the image's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.expand = nn.Conv2d(16, 16, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.stem(x)))
        y = F.hardswish(self.expand_norm(self.expand(x)))
        y = F.relu6(self.depthwise(y))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        y = y * gate
        y = y * torch.sigmoid(x) + x
        scores: Tensor = self.last(y.mean((2, 3)))
        return F.softmax(scores, 1)


class Branches(nn.Module):
    """Two readers of one tensor, concatenation, half of the channels, a shuffle, and crossed residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.left = nn.Conv2d(16, 16, 1)
        self.right = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.middle = nn.Conv2d(32, 16, 3, padding=1)
        self.quarter = nn.Conv2d(8, 16, 1)
        self.other = nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.stem(x))
        left, right = F.relu(self.left(x)), F.relu(self.right(x))
        y = F.channel_shuffle(self.middle(torch.cat([left, right], 1)), 4)
        z = self.quarter(y.chunk(2, 1)[1].contiguous())
        one, other = y + self.other(z), z + self.other(y)
        return self.last(F.max_pool2d(one.clamp(0, 0.75), 2)), self.last(other)


class Pools(nn.Module):
    """What may stand between a sum and a quantizer, in every order: pools, BatchNorm, ReLU, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.one, self.one_norm = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.two, self.two_norm = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.three = nn.Conv2d(32, 24, 3, stride=2, padding=1)
        self.hidden, self.hidden_norm = nn.Linear(24 * 4, 16), nn.BatchNorm1d(16)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.stem(x), 2))
        x = F.relu(self.one_norm(F.max_pool2d(self.one(x), 3, 1, 1)))  # 8
        x = F.max_pool2d(F.relu(self.two_norm(self.two(x))), 2)
        x = F.relu(self.three(x).flatten(1))
        x = F.hardtanh(self.hidden_norm(self.hidden(x)), 0, 1)
        scores: Tensor = self.last(x)
        return scores


class Fork(nn.Module):
    """A tensor that a layer reads, and of which two more read the maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.one = nn.Conv2d(16, 16, 3, padding=1)
        self.two = nn.Conv2d(16, 16, 1)
        self.three = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        largest = F.max_pool2d(x, 3, 1, 1)
        scores: Tensor = self.last(F.relu(self.one(x) + self.two(largest) + self.three(largest)))
        return scores


class Pads(nn.Module):
    """Paddings of every mode, as layers and of low-bit layers, and the other pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect")
        self.one = nn.Conv2d(16, 16, 3, padding=1, padding_mode="replicate")
        self.two = nn.Conv2d(16, 16, (3, 1), padding=(1, 0), padding_mode="circular", dilation=1)
        self.three = nn.Conv2d(16, 16, 3, dilation=2)
        self.four = nn.Conv2d(24, 16, 1)
        self.last = nn.Linear(16 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.relu(self.stem(x)), (1, 0, 0, 1))
        x = F.pad(F.relu(self.one(x)), (1, 1, 1, 1), value=0.25)
        x = F.relu(F.avg_pool2d(self.two(x), 2, ceil_mode=False))
        x = F.pad(self.three(x), (0, 0, 0, 0, 0, 8))  # channels
        x = F.adaptive_avg_pool2d(F.relu(self.four(x)), (2, 3))
        scores: Tensor = self.last(x.flatten(1))
        return scores


class Signal(nn.Module):
    """One dimension: a raw wave, strides, pools, a mean over time and log-softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 16, 9, stride=2, padding=4),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(32, 32, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Conv1d(32, 32, 1),
        )
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x).mean(2)
        return F.log_softmax(self.last(F.relu(x)), 1)


class Tokens(nn.Module):
    """Patches of images as tokens, mixed along tokens and along features, some of them cut off, some twice."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 2, 2)
        self.norm = nn.BatchNorm1d(16)
        self.along_tokens, self.back = nn.Linear(16, 24), nn.Linear(24, 16)
        self.along_features = nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patches(x).flatten(2)).transpose(1, 2)
        x = x + self.back(F.relu(self.along_tokens(x.transpose(1, 2)))).transpose(1, 2)
        x = torch.cat([x[:, 1:], x[:, :4]], 1)
        x = F.relu(self.along_features(x))
        scores: Tensor = self.head(x[:, 2:6].flip(1))
        return scores


class Attends(nn.Module):
    """Heads of attention: on codes, in one operation, and as products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Linear(8, 16), nn.Linear(16, 48)
        self.attention = Attention()
        self.projection, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True) + self.attention(q, k, v)
        y = y + q @ k.mT @ v
        scores: Tensor = self.head(self.projection(y.transpose(1, 2).flatten(2)))
        return scores


class Leveled(nn.Module):
    """Tokens normalised, each by itself and groups of all, and what is left of them along their axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(8, 16), nn.LayerNorm(16)
        self.hidden, self.groups = nn.Linear(16, 16), nn.GroupNorm(4, 16)
        self.wide, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = x + self.hidden(self.norm(x))
        x = F.relu(self.wide(self.groups(x.transpose(1, 2)).transpose(1, 2)))
        scores: Tensor = self.head(torch.cat([x.amin(1)[:, :8], x.std(1)[:, 8:]], 1))
        return scores, x.sum(2).argmax(1)


class Positions(nn.Module):
    """Tokens with positions, a class token and a mask; windows of them as images of their own; arithmetic of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 2, 2)
        self.first = nn.Buffer(torch.arange(16.0).view(1, 1, 16) / 16, persistent=False)
        self.places = nn.Buffer(torch.arange(17 * 16.0).view(1, 17, 16) % 7 / 8 - 0.25, persistent=False)
        self.mask = nn.Buffer(torch.arange(4) > torch.arange(16)[:, None] % 4, persistent=False)
        self.keys, self.values = nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
        windows = x[:, 1:].reshape(-1, 4, 16)
        windows = torch.maximum(F.relu(self.keys(windows)), self.values(windows))
        windows = (windows - windows[:, :1]).masked_fill(self.mask.t(), -0.5)
        rest = windows.reshape(len(x), 16, 16) / (F.relu(x[:, 1:]) + 1)
        scores: Tensor = self.head(torch.minimum(F.relu(rest), x[:, :1]))
        return scores


class Words(nn.Module):
    """Rows of two tables in the place of words, which are added."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(20, 16), nn.Embedding(30, 16)
        self.hidden, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(F.relu(self.hidden(F.relu(self.words(x) + self.kinds(x)))))
        return scores


class Normalized(nn.Module):
    """Images are normalised in front of the net, channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1, 1), persistent=False)
        self.deviation = nn.Buffer(torch.tensor([0.25, 0.5, 0.25]).view(1, 3, 1, 1), persistent=False)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers((x - self.mean) / self.deviation)
        return y


class Repeated(nn.Module):
    """Features: a linear layer, a BatchNorm and a PReLU that are called three times, and outputs with names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 32)
        self.linear = nn.Linear(32, 32)
        self.norm = nn.BatchNorm1d(32)
        self.act = nn.PReLU(32)
        self.drop = nn.Dropout()
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = torch.tanh(self.first(x))
        for _ in range(3):
            features = self.drop(self.act(self.norm(self.linear(features))))
        scores = self.last(features)
        return {"scores": scores, "again": scores, "features": F.silu(features) / 2 - 0.5, "input": x}


class Codes(nn.Module):
    """Quantizers without a layer, tables between them, two inputs, one of which no layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = QActivation(InputDoReFa(3))
        self.fine = QActivation(InputDoReFa(8))
        self.sign = QActivation(Sign())
        self.one = nn.Conv2d(4, 16, 3, padding=1)
        self.two = nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        coarse = F.leaky_relu(self.coarse(x) - 0.5, 0.25)
        x = self.one(coarse * 2)
        fine = self.fine(other).chunk(2, 1)[0].contiguous()
        signs = F.relu(self.sign(other))
        y = self.two(torch.cat([fine, signs.chunk(2, 1)[1].contiguous()], 1))
        return self.last(F.relu(x + y)), fine


class Volumes(nn.Module):
    """Three axes of rows, transposed convolutions along them, of codes and of floats, and images of other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv3d(8, 16, 3, padding=1, bias=False), nn.BatchNorm3d(16), nn.ReLU())
        self.up = nn.ConvTranspose3d(16, 8, 2, 2)
        self.flat = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1)
        self.last = nn.ConvTranspose2d(8, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(F.max_pool3d(self.first(x), 2))
        y = F.adaptive_max_pool3d(F.relu(self.up(x)), (1, 4, 5)).squeeze(2)
        y = F.interpolate(self.flat(F.interpolate(y, scale_factor=2)), size=(10, 9), mode="bilinear")
        z: Tensor = self.last(y)
        return z


_ZOO: tuple[tuple[str, int, int, float], ...] = (
    ("svhn-a", 3, 40, 1),
    ("svhn-d", 3, 40, 1),
    ("lenet-28", 1, 28, 1),
    ("lenet-8", 1, 8, 1),
    ("resnet-20", 3, 16, 1),
    ("resnet-18", 3, 32, 0.25),
    ("mobilenet-v2", 3, 32, 1),
)
_ZOO_SETTINGS = (SIGN, UNIT, OFFSET)
#: The results of these are kept.
_EXACT = {("lenet-8", "W1A2"), ("svhn-d", "W1A2"), ("lenet-28", "W1A2"), ("pools", "W8A8"), ("normalized", "W1A2")}

_OTHERS: tuple[tuple[str, Callable[[], nn.Module], tuple[tuple[int, ...], ...], tuple[Setting, ...]], ...] = (
    ("gates", Gates, ((3, 8, 8),), (TERNARY, OFFSET)),
    ("branches", Branches, ((3, 8, 8),), (SIGN, UNIT, WIDE)),
    ("pools", Pools, ((1, 16, 16),), (SIGN, UNIT, TERNARY, WIDE)),
    ("fork", Fork, ((3, 6, 6),), (SIGN, UNIT)),
    ("volumes", Volumes, ((1, 6, 8, 8),), (SIGN, OFFSET)),
    ("pads", Pads, ((3, 12, 12),), (SIGN, OFFSET)),
    ("signal", Signal, ((1, 64),), (TERNARY, OFFSET)),
    ("normalized", Normalized, ((3, 8, 8),), (UNIT, WIDE)),
    ("repeated", Repeated, ((12,),), (TERNARY, WIDE)),
    ("codes", Codes, ((4, 6, 6), (8, 6, 6)), (SIGN, TERNARY)),
    ("attends", Attends, ((6, 8),), (ATTENTION,)),
    ("leveled", Leveled, ((6, 8),), (OFFSET,)),
    ("tokens", Tokens, ((1, 8, 8),), (UNIT, TERNARY)),
    ("positions", Positions, ((1, 8, 8),), (UNIT, OFFSET)),
    ("words", Words, ((5,),), (TERNARY, WORDS)),
)


#: How many there are, of nets that take indices.
_INDICES = {"words": 20}


def _zoo_net(name: str, channels: int, width: float) -> Callable[[], nn.Module]:
    return lambda: build(name, channels, 10, width)


GOLDEN: tuple[Golden, ...] = (
    *(
        Golden(
            name, _zoo_net(name, channels, width), ((channels, side, side),), setting, (name, setting.name) in _EXACT
        )
        for name, channels, side, width in _ZOO
        for setting in _ZOO_SETTINGS
    ),
    *(
        Golden(name, net, shapes, setting, (name, setting.name) in _EXACT, _INDICES.get(name, 0))
        for name, net, shapes, settings in _OTHERS
        for setting in settings
    ),
)
