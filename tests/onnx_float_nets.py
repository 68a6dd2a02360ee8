"""Small float models for every kind of node, and images to run them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.layers import QLinear
from bitorch.quantizations import Identity, WeightAbsMax

_SEED = torch.Generator().manual_seed(7)


def random(*shape: int) -> Tensor:
    """Normal numbers, others at each call, the same in each run."""
    return torch.randn(shape, generator=_SEED)


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def with_statistics(norm: Any) -> Any:
    """A batch norm that has seen something."""
    for tensor, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.1, 2), (norm.weight, -1, 1)):
        nn.init.uniform_(tensor, low, high, generator=_SEED)
    nn.init.uniform_(norm.bias, generator=_SEED)
    return norm.eval()


IMAGE, SIGNAL, VOLUME = random(2, 4, 9, 11), random(2, 4, 13), random(2, 4, 5, 6, 7)
TOKENS, VECTORS = random(2, 5, 8), random(3, 12)
INDICES = torch.tensor([[0, 3, 10, 3, 1], [5, 5, 0, 2, 9]])

_SLOPES = random(4).abs() + 0.1
_CHANNELS = _SLOPES.view(4, 1, 1)
#: Functions of each number, of images of 4 channels.
ELEMENTWISE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "clamp": lambda x: x.clamp(-0.5, 1.25),
    "clamp to one side": lambda x: x.clamp(min=0.1),
    "clamp to bounds that cross": lambda x: x.clamp(2, 1),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "prelu": lambda x: F.prelu(x, _SLOPES),
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.6),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "exp": torch.exp,
    "softplus": F.softplus,
    "softplus of another beta": lambda x: F.softplus(x, 2.0, 5.0),
    "mish": F.mish,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "softsign": F.softsign,
    "sign": torch.sign,
    "threshold": lambda x: F.threshold(x, 0.3, 0.1),
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "plus": lambda x: x + _CHANNELS,
    "times": lambda x: x * _CHANNELS,
    "divide": lambda x: x / _CHANNELS,
    "softmax": lambda x: x.softmax(1),
    "log softmax of columns": lambda x: x.log_softmax(-1),
    "batch norm": with_statistics(nn.BatchNorm2d(4)),
    "gate": lambda x: F.glu(x, 1),
    "cube": lambda x: x**3,
}

_MASK, _BIAS, _POSITIONS = random(9, 11) > 0, random(9, 9) > 0, random(1, 4, 13)
_MATRICES, _COLUMNS, _HEAD = random(4, 9, 9), random(1, 1, 9, 1), random(1, 4, 2)
_HEADS = nn.MultiheadAttention(8, 2, batch_first=True)


def weights_alone(inputs: int, bits: int) -> QLinear:
    """A linear layer of low-bit weights in groups of four, beside floats."""
    return QLinear(inputs, 5, input_quantization=Identity(), weight_quantization=WeightAbsMax(bits, group_size=4))


#: Everything else, with an example.
OTHERS: Mapping[str, tuple[nn.Module | Callable[[Tensor], Tensor], Tensor]] = {
    "max pool": (nn.MaxPool2d(3, 2, 1), IMAGE),
    "max pool with gaps": (nn.MaxPool2d(3, 2, 1, 2), IMAGE),
    "max pool of ceil mode": (nn.MaxPool2d(2, 3, ceil_mode=True), IMAGE),
    "max pool of a signal": (nn.MaxPool1d(3, 2), SIGNAL),
    "max pool of a volume": (nn.MaxPool3d(2, 2), VOLUME),
    "mean pool": (nn.AvgPool2d(2), IMAGE),
    "mean pool with borders": (nn.AvgPool2d(3, 2, 1), IMAGE),
    "mean pool whose borders do not count": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "mean pool of ceil mode": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "mean pool of ceil mode without borders": (nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), IMAGE),
    "mean pool with a divisor": (nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "mean pool of a signal": (nn.AvgPool1d(3, 2, 1), SIGNAL),
    "mean pool of a volume": (nn.AvgPool3d(2, 2), VOLUME),
    "mean of all pixels": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "mean of all pixels to channels": (lambda x: x.mean((2, 3)), IMAGE),
    "adaptive mean pool": (nn.AdaptiveAvgPool2d((4, 3)), IMAGE),
    "adaptive mean pool of equal windows": (nn.AdaptiveAvgPool2d((3, 11)), IMAGE),
    "adaptive mean pool of a signal": (nn.AdaptiveAvgPool1d(5), SIGNAL),
    "adaptive mean pool of a volume": (nn.AdaptiveAvgPool3d((2, 4, 3)), VOLUME),
    "adaptive max pool": (nn.AdaptiveMaxPool2d((4, 3)), IMAGE),
    "adaptive max pool of a signal": (nn.AdaptiveMaxPool1d(5), SIGNAL),
    "convolution": (nn.Conv2d(4, 6, 3, 2, 1, groups=2), IMAGE),
    "convolution of the same size": (nn.Conv2d(4, 6, 4, padding="same", dilation=2, bias=False), IMAGE),
    "convolution of a signal": (nn.Conv1d(4, 6, 3, padding=1), SIGNAL),
    "convolution of a volume": (nn.Conv3d(4, 6, 3), VOLUME),
    "convolution of a mirrored border": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), IMAGE),
    "transposed convolution": (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), IMAGE),
    "transposed convolution of a signal": (nn.ConvTranspose1d(4, 6, 3, 2, dilation=2), SIGNAL),
    "transposed convolution of a volume": (nn.ConvTranspose3d(4, 6, 2, 2), VOLUME),
    "linear": (nn.Linear(12, 5), VECTORS),
    "linear without a bias": (nn.Linear(12, 5, bias=False), VECTORS),
    "linear of tokens": (nn.Linear(8, 5), TOKENS),
    "weights of 3 bits": (weights_alone(12, 3), VECTORS),
    "weights of 1 bit, of tokens": (weights_alone(8, 1), TOKENS),
    "linear of columns": (nn.Linear(11, 5), IMAGE),
    "linear of columns without a bias": (nn.Linear(11, 5, bias=False), IMAGE),
    "layer norm": (nn.LayerNorm(8), TOKENS),
    "layer norm of two axes": (nn.LayerNorm([9, 11]), IMAGE),
    "layer norm of an image": (nn.LayerNorm([4, 9, 11]), IMAGE),
    "group norm": (nn.GroupNorm(2, 4), IMAGE),
    "instance norm": (nn.InstanceNorm2d(4, affine=True), IMAGE),
    "RMS norm": (nn.RMSNorm(8), TOKENS),
    "length 1": (F.normalize, IMAGE),
    "batch norm of vectors": (with_statistics(nn.BatchNorm1d(12)), VECTORS),
    "batch norm of a signal": (with_statistics(nn.BatchNorm1d(4)), SIGNAL),
    "sum": (lambda x: x.sum(1), IMAGE),
    "sum over two axes": (lambda x: x.sum((1, 3), keepdim=True), IMAGE),
    "mean": (lambda x: x.mean(3), IMAGE),
    "norm": (lambda x: x.norm(dim=1), IMAGE),
    "variance": (lambda x: x.var((1, 2)), IMAGE),
    "deviation": (lambda x: x.std(2, correction=0), IMAGE),
    "largest": (lambda x: x.amax(1), IMAGE),
    "smallest": (lambda x: x.amin((1, 2)), IMAGE),
    "largest pixel": (lambda x: x.amax((2, 3)), IMAGE),
    "place of the largest": (lambda x: x.argmax(1), IMAGE),
    "place of the smallest": (lambda x: x.argmin(2, keepdim=True), IMAGE),
    "flatten": (lambda x: x.flatten(1), IMAGE),
    "flatten row by row": (lambda x: x.permute(0, 2, 3, 1).flatten(1), IMAGE),
    "channels": (lambda x: x[:, [2, 0, 1]], IMAGE),
    "a run of channels": (lambda x: x[:, 1:3], IMAGE),
    "every third column": (lambda x: x[:, :, ::2, 1:9:3], IMAGE),
    "flip": (lambda x: x.flip(2), IMAGE),
    "roll": (lambda x: x.roll(3, 3), IMAGE),
    "shuffle": (lambda x: x.view(x.shape[0], 2, 2, 9, 11).transpose(1, 2).flatten(1, 2), IMAGE),
    "pixel shuffle": (nn.PixelShuffle(2), IMAGE),
    "pixel unshuffle": (nn.PixelUnshuffle(3), IMAGE[..., :9]),
    "axes": (lambda x: x.permute(0, 3, 1, 2), IMAGE),
    "windows": (lambda x: F.unfold(x, 3, padding=1, stride=2), IMAGE),
    "pixels as tokens": (lambda x: x.flatten(2).transpose(1, 2), IMAGE),
    "another shape": (lambda x: x.reshape(x.shape[0], 3, -1), IMAGE),
    "border": (lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), IMAGE),
    "border of channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), IMAGE),
    "mirrored border": (lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), IMAGE),
    "repeated border": (lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"), IMAGE),
    "border of the other end": (lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"), IMAGE),
    "border of vectors": (lambda x: F.pad(x, (2, 1)), VECTORS),
    "cut": (lambda x: F.pad(x, (-1, 2)), IMAGE),
    "together": (lambda x: torch.cat([x, x * 2], 1), IMAGE),
    "columns together": (lambda x: torch.cat([x, x.relu()], 3), IMAGE),
    "with a constant": (lambda x: torch.cat([_HEAD.expand(x.shape[0], -1, -1), x], 2), SIGNAL),
    "with zeros": (lambda x: torch.cat([torch.zeros(x.shape[0], 2, 9, 11), x], 1), IMAGE),
    "stack": (lambda x: torch.stack([x, -x], 2), SIGNAL),
    "nearest pixels, twice": (lambda x: F.interpolate(x, scale_factor=2), IMAGE),
    "nearest pixels": (lambda x: F.interpolate(x, size=(13, 7)), IMAGE),
    "bilinear": (lambda x: F.interpolate(x, size=(20, 13), mode="bilinear"), IMAGE),
    "bilinear, corners aligned": (
        lambda x: F.interpolate(x, size=(20, 13), mode="bilinear", align_corners=True),
        IMAGE,
    ),
    "bilinear by a factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), IMAGE),
    "bilinear to less": (lambda x: F.interpolate(x, size=(4, 5), mode="bilinear"), IMAGE),
    "bicubic": (lambda x: F.interpolate(x, size=(20, 13), mode="bicubic"), IMAGE),
    "bicubic, corners aligned": (lambda x: F.interpolate(x, size=(20, 13), mode="bicubic", align_corners=True), IMAGE),
    "linear along a signal": (lambda x: F.interpolate(x, size=20, mode="linear"), SIGNAL),
    "trilinear": (lambda x: F.interpolate(x, size=(7, 3, 10), mode="trilinear"), VOLUME),
    "by areas": (lambda x: F.interpolate(x, size=(4, 5), mode="area"), IMAGE),
    "product": (lambda x: x @ x.transpose(1, 2), SIGNAL),
    "product the other way": (lambda x: (x.transpose(1, 2) @ x) * 0.5, SIGNAL),
    "product of heads": (lambda x: x @ x.transpose(-1, -2), IMAGE),
    "product with constants": (lambda x: _MATRICES @ x, IMAGE),
    "attention of a layer": (lambda x: _HEADS(x, x, x, need_weights=False)[0], TOKENS),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x.tanh(), x * 2), IMAGE),
    "causal attention": (lambda x: F.scaled_dot_product_attention(x, x.tanh(), x * 2, is_causal=True), IMAGE),
    "masked attention": (lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=_BIAS), IMAGE),
    "shared keys": (lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:], enable_gqa=True), IMAGE),
    "repeated along axes": (lambda x: x + _COLUMNS * x.mean(1, keepdim=True), IMAGE),
    "positions": (lambda x: x + _POSITIONS, SIGNAL),
    "weighed channels": (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), IMAGE),
    "weighed by vectors": (lambda x: x * x.mean((2, 3))[:, :, None, None], IMAGE),
    "weighed by one number": (lambda x: x * x.mean((1, 2, 3), keepdim=True), IMAGE),
    "difference": (lambda x: x - x.relu(), IMAGE),
    "quotient": (lambda x: x / (x.abs() + 1), IMAGE),
    "smaller": (lambda x: torch.minimum(x, x * 0.5), IMAGE),
    "larger": (lambda x: torch.maximum(x, x * 0.5 + 0.1), IMAGE),
    "choice": (lambda x: torch.where(_MASK, x, x * 2), IMAGE),
    "filled": (lambda x: x.masked_fill(_MASK, 1.5), IMAGE),
    "lower triangle": (lambda x: x.tril(), IMAGE),
    "rows of a table": (nn.Embedding(11, 6), INDICES),
}


def model_of(model: nn.Module | Callable[..., Tensor]) -> nn.Module:
    """A model, of a function too."""
    return model.eval() if isinstance(model, nn.Module) else Function(model)
