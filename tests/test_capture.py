"""capture: the graph gives the model's bits for every batch, and its settings mean what PyTorch computes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitorch import LowBitConfig, quantize_
from bitorch.deployment.capture.capture import capture
from bitorch.layers import AbsorbedReLU, QActivation, QConv1d, QConv2d, QConv2d_NoAct, QLinear
from bitorch.models import LeNet8, LeNet28, ResNet18, ResNet20, SVHNNet
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    Identity,
    InputDoReFa,
    ProgressiveSign,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightDoReFa,
)
from capture_nets import (
    LOW_BIT,
    NO_LOW_BIT,
    SHAPE,
    Net,
    TwoInputs,
    captured,
    image,
    kinds,
    only,
    problem,
    problems,
    randomized,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# Functions and methods

FUNCTIONS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "F.relu": (lambda m, x: F.relu(x), "relu"),
    "F.relu inplace": (lambda m, x: F.relu(x, inplace=True), "relu"),
    "F.relu_": (lambda m, x: F.relu_(x), "relu"),
    "torch.relu": (lambda m, x: torch.relu(x), "relu"),
    "torch.relu_": (lambda m, x: torch.relu_(x), "relu"),
    "x.relu": (lambda m, x: x.relu(), "relu"),
    "x.relu_": (lambda m, x: x.relu_(), "relu"),
    "F.relu6": (lambda m, x: F.relu6(x), "clamp"),
    "F.hardtanh": (lambda m, x: F.hardtanh(x, -0.5, 2.0), "clamp"),
    "x.clamp": (lambda m, x: x.clamp(0, 1), "clamp"),
    "x.clamp_": (lambda m, x: x.clamp_(0, 1), "clamp"),
    "torch.clamp min": (lambda m, x: torch.clamp(x, min=-0.5), "clamp"),
    "torch.clip max": (lambda m, x: torch.clip(x, max=0.5), "clamp"),
    "x.clip": (lambda m, x: x.clip(-1, 0.5), "clamp"),
    "clamp tensor": (lambda m, x: x.clamp(torch.tensor(0.1), torch.ones(1)), "clamp"),
    "clamp_min": (lambda m, x: x.clamp_min(0.3), "clamp"),
    "clamp_max": (lambda m, x: torch.clamp_max(x, 0.3), "clamp"),
    "torch.minimum": (lambda m, x: torch.minimum(x, torch.tensor(0.5)), "clamp"),
    "torch.maximum": (lambda m, x: torch.maximum(torch.zeros(1), x), "clamp"),
    "torch.max": (lambda m, x: torch.max(x, torch.zeros(())), "clamp"),
    "torch.min": (lambda m, x: torch.min(x, torch.zeros(())), "clamp"),
    "F.leaky_relu": (lambda m, x: F.leaky_relu(x, 0.1), "leaky_relu"),
    "F.leaky_relu_": (lambda m, x: F.leaky_relu_(x, 0.1), "leaky_relu"),
    "F.prelu": (lambda m, x: F.prelu(x, m.slopes), "leaky_relu"),
    "x.prelu": (lambda m, x: x.prelu(m.slopes[:1]), "leaky_relu"),
    "F.hardswish": (lambda m, x: F.hardswish(x), "hardswish"),
    "F.hardsigmoid": (lambda m, x: F.hardsigmoid(x, inplace=True), "hardsigmoid"),
    "F.sigmoid": (lambda m, x: torch.nn.functional.sigmoid(x), "sigmoid"),
    "torch.sigmoid": (lambda m, x: torch.sigmoid(x), "sigmoid"),
    "x.sigmoid_": (lambda m, x: x.sigmoid_(), "sigmoid"),
    "torch.tanh": (lambda m, x: torch.tanh(x), "tanh"),
    "x.tanh": (lambda m, x: x.tanh(), "tanh"),
    "F.silu": (lambda m, x: F.silu(x), "silu"),
    "F.gelu": (lambda m, x: F.gelu(x), "gelu"),
    "F.gelu by tanh": (lambda m, x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
    "F.elu": (lambda m, x: F.elu(x, 0.7), "elu"),
    "F.elu_": (lambda m, x: F.elu_(x), "elu"),
    "F.softmax": (lambda m, x: F.softmax(x, dim=1), "softmax"),
    "x.softmax": (lambda m, x: x.softmax(-3), "softmax"),
    "torch.log_softmax": (lambda m, x: torch.log_softmax(x, 1), "softmax"),
    "x + 2": (lambda m, x: x + 2, "plus"),
    "2 + x": (lambda m, x: 2 + x, "plus"),
    "x + True": (lambda m, x: x + True, "plus"),
    "x - 0.1": (lambda m, x: x - 0.1, "plus"),
    "1 - x": (lambda m, x: 1 - x, "times plus"),
    "c - x": (lambda m, x: m.mean - x, "times plus"),
    "x - c": (lambda m, x: x - m.mean, "plus"),
    "c + x": (lambda m, x: m.constant + x, "plus"),
    "x.add_": (lambda m, x: x.add_(m.mean), "plus"),
    "torch.rsub": (lambda m, x: torch.rsub(x, 3), "times plus"),
    "x * 0.3": (lambda m, x: x * 0.3, "times"),
    "0.3 * x": (lambda m, x: 0.3 * x, "times"),
    "x * c": (lambda m, x: x * m.slopes.view(1, -1, 1, 1), "times"),
    "c[:, None, None] * x": (lambda m, x: m.slopes[:, None, None] * x, "times"),
    "x * tensor(2)": (lambda m, x: x * torch.tensor(2), "times"),
    "x * like x": (lambda m, x: x * torch.full_like(x, 0.3), "times"),
    "maximum(x, zeros_like(x))": (lambda m, x: torch.maximum(x, torch.zeros_like(x)), "clamp"),
    "x + one row each": (lambda m, x: x + m.mean.expand(x.shape[0], -1, -1, -1), "plus"),
    "x *= c": (lambda m, x: x.mul_(m.std), "times"),
    "torch.multiply": (lambda m, x: torch.multiply(x, m.std), "times"),
    "x / 3": (lambda m, x: x / 3, "divide"),
    "x / c": (lambda m, x: x / m.std, "divide"),
    "torch.div": (lambda m, x: torch.div(x, m.std), "divide"),
    "x.div_": (lambda m, x: x.div_(0.7), "divide"),
    "normalize": (lambda m, x: (x - m.mean) / m.std, "plus divide"),
    "-x": (lambda m, x: -x, "times"),
    "torch.neg": (lambda m, x: torch.neg(x), "times"),
    "x ** 2": (lambda m, x: x**2, "mul"),
    "torch.square": (lambda m, x: torch.square(x), "mul"),
    "x * x": (lambda m, x: x * x, "mul"),
    "swish by hand": (lambda m, x: x * torch.sigmoid(x), "sigmoid mul"),
    "x + y": (lambda m, x: x + x.relu(), "relu add"),
    "torch.add": (lambda m, x: torch.add(x, x.relu(), alpha=1), "relu add"),
    "x.add(y)": (lambda m, x: x.add(x.relu()), "relu add"),
    "x - y": (lambda m, x: x - x.relu(), "relu sub"),
    "x + x": (lambda m, x: x + x, "add"),
    "torch.cat": (lambda m, x: torch.cat([x, x.relu()], 1), "relu concat"),
    "torch.cat of one": (lambda m, x: torch.cat([x], dim=-3) * 2, "times"),
    "torch.concat": (lambda m, x: torch.concat((x.relu(), x, x), dim=1), "relu concat"),
    "cat with zeros": (lambda m, x: torch.cat([x.new_zeros(x.shape[0], 2, 6, 6), x, torch.zeros_like(x)], 1), "pad"),
    "cat with ones between": (lambda m, x: torch.cat([x, torch.ones_like(x)], 1), "pad"),
    "F.conv2d": (lambda m, x: F.conv2d(x, m.conv.weight, None, 2, 1), "conv"),
    "conv, standardized": (
        lambda m, x: F.conv2d(x, m.conv.weight - m.conv.weight.mean(), padding="same"),
        "conv",
    ),
    "F.linear": (lambda m, x: F.linear(x.mean((2, 3)), m.linear.weight), "global_avg_pool linear"),
    "F.batch_norm": (lambda m, x: F.batch_norm(x, m.norm.running_mean, m.norm.running_var), "batch_norm"),
    "F.max_pool2d": (lambda m, x: F.max_pool2d(x, 2), "max_pool"),
    "torch.max_pool2d": (lambda m, x: torch.max_pool2d(x, (3, 2), padding=(1, 0)), "max_pool"),
    "max_pool2d with indices": (lambda m, x: F.max_pool2d(x, 3, 2, return_indices=True)[0], "max_pool"),
    "F.avg_pool2d": (lambda m, x: F.avg_pool2d(x, 3, 1, 1), "avg_pool"),
    "F.avg_pool2d uncounted": (lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), "avg_pool"),
    "F.adaptive_avg_pool2d": (lambda m, x: F.adaptive_avg_pool2d(x, (1, 1)), "global_avg_pool"),
    "F.adaptive_avg_pool2d to more": (lambda m, x: F.adaptive_avg_pool2d(x, (4, 9)), "adaptive_avg_pool"),
    "F.adaptive_avg_pool2d as is": (lambda m, x: F.adaptive_avg_pool2d(x, (6, None)), "identity"),
    "F.adaptive_max_pool2d": (lambda m, x: F.adaptive_max_pool2d(x, (3, 1)), "max_pool"),
    "x.mean": (lambda m, x: x.mean((2, 3)), "global_avg_pool"),
    "torch.mean": (lambda m, x: torch.mean(x, dim=[-1, -2], keepdim=True), "global_avg_pool"),
    "x.flatten(2).mean(2)": (lambda m, x: x.flatten(2).mean(2), "global_avg_pool"),
    "x.view.mean": (lambda m, x: x.view(x.size(0), x.size(1), -1).mean(-1), "global_avg_pool"),
    "x.amax": (lambda m, x: x.amax((2, 3)), "max_pool flatten"),
    "torch.amax": (lambda m, x: torch.amax(x, (-2, -1), keepdim=True), "max_pool"),
    "F.pad": (lambda m, x: F.pad(x, (1, 2, 0, 1)), "pad"),
    "F.pad of channels": (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2), value=0.5), "pad"),
    "F.pad by nothing": (lambda m, x: F.pad(x, (0, 0)), "identity"),
    "F.pad reflect": (lambda m, x: F.pad(x, (1, 2, 2, 1), "reflect"), "pad"),
    "F.pad replicate": (lambda m, x: F.pad(x, (1, 2, 2, 1), mode="replicate"), "pad"),
    "F.pad circular": (lambda m, x: F.pad(x, (1, 2, 2, 1), mode="circular"), "pad"),
    "F.dropout": (lambda m, x: F.dropout(x, 0.5, m.training), ""),
    "F.dropout2d": (lambda m, x: F.dropout2d(x, 0.5, training=m.training), ""),
    "F.channel_shuffle": (lambda m, x: F.channel_shuffle(x, 2), "select"),
    "shuffle by hand": (
        lambda m, x: x.view(x.shape[0], 2, 2, 6, 6).transpose(1, 2).contiguous().view(x.shape[0], -1, 6, 6),
        "select",
    ),
    "shuffle with reshape": (
        lambda m, x: x.reshape(len(x), 2, -1, *x.shape[2:]).permute(0, 2, 1, 3, 4).flatten(1, 2),
        "select",
    ),
    "x.chunk": (lambda m, x: x.chunk(2, 1)[1], "select"),
    "torch.split": (lambda m, x: torch.split(x, [1, 3], dim=1)[1], "select"),
    "x.split": (lambda m, x: x.split(3, 1)[0], "select"),
    "x.unbind": (lambda m, x: x[:, 1:2] + x[:, 0:1], "select select add"),
    "x[:, a:b]": (lambda m, x: x[:, 1:3], "select"),
    "x[:, ::2]": (lambda m, x: x[:, ::2], "select"),
    "x[:, [...]]": (lambda m, x: x[:, [2, 0, 0, 1]], "select"),
    "x.index_select": (lambda m, x: x.index_select(1, torch.tensor([3, 1])), "select"),
    "x.narrow": (lambda m, x: x.narrow(1, 1, 2), "select"),
    "x.flip": (lambda m, x: x.flip(1), "select"),
    "x[:]": (lambda m, x: x[:].relu(), "relu"),
    "x[arange]": (lambda m, x: x[torch.arange(x.shape[0])].relu(), "relu"),
    "torch.flatten": (lambda m, x: torch.flatten(x, 1), "flatten"),
    "torch.flatten input=": (lambda m, x: torch.flatten(input=x, start_dim=1), "flatten"),
    "x.flatten": (lambda m, x: x.flatten(start_dim=1), "flatten"),
    "x.view": (lambda m, x: x.view(x.shape[0], -1), "flatten"),
    "x.view(-1, n)": (lambda m, x: x.view(-1, 144), "flatten"),
    "x.reshape": (lambda m, x: x.reshape(x.size(0), -1), "flatten"),
    "x.ravel-like": (lambda m, x: x.unsqueeze(1).flatten(1), "flatten"),
    "hwc order": (lambda m, x: x.permute(0, 2, 3, 1).reshape(len(x), -1), "flatten"),
    "crop": (lambda m, x: x[:, :, 1:-1, :4].relu(), "take take relu"),
    "some of every second row": (lambda m, x: x[:, :, :4:2].relu(), "take relu"),
    "the first rows": (lambda m, x: x[:, :, :4].relu(), "take relu"),
    "some channels, cropped": (lambda m, x: x[:, 1:3, 1:].relu(), "select take relu"),
    "rows turned round": (lambda m, x: x.flip(2).roll(1, 3).relu(), "take take relu"),
    "uneven interpolate": (lambda m, x: F.interpolate(x, 8), "nearest"),
    "permute": (lambda m, x: x.permute(0, 2, 3, 1).relu(), "relu permute"),
    "permute and back": (lambda m, x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2), "relu"),
    "transposed image": (lambda m, x: m.conv(x.mT).mT, "permute conv permute"),
    "pixel_shuffle": (lambda m, x: F.pixel_shuffle(x, 2), "reshape permute reshape"),
    "pixel_unshuffle": (lambda m, x: F.pixel_unshuffle(x, 2), "reshape permute reshape"),
    "patches": (
        lambda m, x: x.unflatten(3, (2, 3)).unflatten(2, (3, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2),
        "reshape permute reshape",
    ),
    "pixels as tokens": (lambda m, x: x.flatten(2).transpose(1, 2), "reshape permute"),
    "five dimensions": (lambda m, x: x.view(-1, 2, 2, 6, 6) * 2, "reshape permute reshape times"),
    "cat of rows": (lambda m, x: torch.cat([x, x * 2], 2), "times concat"),
    "cat of columns and zeros": (
        lambda m, x: torch.cat([torch.zeros(len(x), 4, 6, 2), x, x * 2], 3),
        "times concat pad",
    ),
    "softmax over rows": (lambda m, x: x.softmax(2), "permute softmax permute"),
    "constants of columns": (lambda m, x: x * torch.arange(6.0), "permute times permute"),
    "linear on rows of pixels": (
        lambda m, x: F.linear(x.flatten(2), torch.ones(2, 36)),
        "reshape permute linear permute",
    ),
    "norm of transposed rows": (lambda m, x: m.norm(x.mT), "permute plus times times plus"),
    "crop, flattened": (lambda m, x: x[:, :, 1:-1, 1:-1].flatten(1), "flatten select"),
    "squeeze 1×1": (lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2), "global_avg_pool flatten"),
    "squeeze(-1)": (lambda m, x: x.mean((2, 3), keepdim=True).squeeze((-1, -2)), "global_avg_pool flatten"),
    "x[:, :, 0, 0]": (lambda m, x: x.mean((2, 3), True)[:, :, 0, 0], "global_avg_pool flatten"),
    "x[..., 0, 0]": (lambda m, x: x.mean((2, 3), True)[..., 0, 0].chunk(2, 1)[0], "global_avg_pool flatten select"),
    "features as image": (lambda m, x: x.mean((2, 3))[:, [1, 0], None, None], "global_avg_pool select identity"),
    "x.contiguous": (lambda m, x: x.contiguous().relu(), "relu"),
    "channels last": (lambda m, x: m.conv(x.contiguous(memory_format=torch.channels_last)), "identity conv"),
    "x.to": (lambda m, x: m.conv(x.to(torch.float32).float().to(x.device).type_as(m.mean)), "conv"),
    "x.detach": (lambda m, x: x.detach().clone().relu_(), "relu"),
    "gate": (lambda m, x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), "global_avg_pool sigmoid mul"),
    "gate first": (lambda m, x: x.mean((2, 3), keepdim=True) * x, "global_avg_pool mul"),
    "gate from features": (
        lambda m, x: x * m.linear(x.mean((2, 3)))[:, :, None, None],
        "global_avg_pool linear identity mul",
    ),
    "gate expanded": (
        lambda m, x: x * m.linear(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)).view(len(x), -1, 1, 1).expand_as(x),
        "global_avg_pool flatten linear identity mul",
    ),
    "gate added": (
        lambda m, x: x + x.mean((2, 3), keepdim=True),
        "global_avg_pool add",
    ),
    "gate subtracted": (
        lambda m, x: x.mean((2, 3), keepdim=True) - x,
        "global_avg_pool sub",
    ),
    "features added": (
        lambda m, x: x + x.mean((2, 3))[:, [1, 0, 2, 2], None, None].expand_as(x),
        "global_avg_pool select identity add",
    ),
    "gate of pixels": (lambda m, x: x[:, 1:2] * x, "select mul"),
    "row and column": (
        lambda m, x: F.max_pool2d(x, (6, 1)) * F.max_pool2d(x[:, :1], (1, 6)),
        "max_pool select max_pool mul",
    ),
    "every second row": (lambda m, x: x[:, :, ::2, ::5], "max_pool"),
    "every row, the first column": (lambda m, x: x[..., :1], "max_pool"),
    "F.interpolate": (lambda m, x: F.interpolate(x, scale_factor=(2, 3)), "nearest"),
    "F.interpolate to less": (lambda m, x: F.interpolate(x, 3, None, "nearest"), "max_pool"),
    "nn.Upsample": (lambda m, x: nn.Upsample(size=(6, 12))(x), "nearest"),
    "x.repeat_interleave": (lambda m, x: x.repeat_interleave(2, 3), "nearest"),
    "shapes are looked at": (
        lambda m, x: x.relu() if x.dim() == 4 and x.shape[-1] > 2 else x,
        "relu",
    ),
    "printed": (lambda m, x: (f"{x} {x.shape}", repr(x), x.dtype, x.device, x.relu())[-1], "relu"),
    "computed in vain": (lambda m, x: (x.abs().sum().item() if x.dim() == 3 else x.sin(), x.relu())[1], "relu"),
    "autograd function": (lambda m, x: doubled(x), "times"),
    "the input": (lambda m, x: x, ""),
}


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


def doubled(x: Tensor) -> Any:
    apply: Any = Doubled.apply
    return apply(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    function, expected = FUNCTIONS[name]
    assert kinds(captured(randomized(Net(function)), image())) == expected.split()


MODULES: dict[str, tuple[nn.Module, str]] = {
    "ReLU": (nn.ReLU(), "relu"),
    "ReLU inplace": (nn.ReLU(inplace=True), "relu"),
    "ReLU6": (nn.ReLU6(), "clamp"),
    "Hardtanh": (nn.Hardtanh(-2, 2, inplace=True), "clamp"),
    "LeakyReLU": (nn.LeakyReLU(0.2), "leaky_relu"),
    "PReLU": (nn.PReLU(), "leaky_relu"),
    "PReLU per channel": (nn.PReLU(4), "leaky_relu"),
    "Hardswish": (nn.Hardswish(), "hardswish"),
    "Hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid"),
    "Sigmoid": (nn.Sigmoid(), "sigmoid"),
    "Tanh": (nn.Tanh(), "tanh"),
    "SiLU": (nn.SiLU(inplace=True), "silu"),
    "GELU": (nn.GELU(), "gelu"),
    "GELU by tanh": (nn.GELU("tanh"), "gelu_tanh"),
    "ELU": (nn.ELU(0.5), "elu"),
    "Softmax": (nn.Softmax(1), "softmax"),
    "Softmax2d": (nn.Softmax2d(), "softmax"),
    "LogSoftmax": (nn.LogSoftmax(dim=1), "softmax"),
    "Identity": (nn.Identity(), ""),
    "AbsorbedReLU": (AbsorbedReLU(), ""),
    "Dropout": (nn.Dropout(), ""),
    "Dropout2d": (nn.Dropout2d(inplace=True), ""),
    "AlphaDropout": (nn.AlphaDropout(), ""),
    "Flatten": (nn.Flatten(), "flatten"),
    "BatchNorm2d": (nn.BatchNorm2d(4), "batch_norm"),
    "BatchNorm2d plain": (nn.BatchNorm2d(4, affine=False), "batch_norm"),
    "Conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), "conv"),
    "Conv2d same": (nn.Conv2d(4, 6, (2, 3), padding="same", bias=False), "conv"),
    "Conv2d valid": (nn.Conv2d(4, 6, 3, padding="valid"), "conv"),
    "Conv2d reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), "pad conv"),
    "MaxPool2d": (nn.MaxPool2d(3, 2, padding=1, dilation=1), "max_pool"),
    "MaxPool2d ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), "max_pool"),
    "AvgPool2d": (nn.AvgPool2d(2), "avg_pool"),
    "AvgPool2d idle ceil": (nn.AvgPool2d(3, 3, ceil_mode=True), "avg_pool"),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((1, 1)), "global_avg_pool"),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d(2), "max_pool"),
    "ZeroPad2d": (nn.ZeroPad2d((1, 0, 2, 1)), "pad"),
    "ConstantPad2d": (nn.ConstantPad2d(1, 0.5), "pad"),
    "ReflectionPad2d": (nn.ReflectionPad2d(1), "pad"),
    "ReplicationPad2d": (nn.ReplicationPad2d((1, 2, 3, 4)), "pad"),
    "CircularPad2d": (nn.CircularPad2d(2), "pad"),
    "ChannelShuffle": (nn.ChannelShuffle(2), "select"),
    "QConv2d": (QConv2d(4, 5, 3, padding=1, bias=True, **LOW_BIT), "low_bit"),
    "QConv2d signs": (QConv2d(4, 5, 3, padding=1, padding_mode="circular"), "low_bit"),
    "QConv2d_NoAct": (QConv2d_NoAct(4, 5, 3, padding=1, weight_quantization=WeightDoReFa(2)), "pad conv"),
    "QActivation": (QActivation(InputDoReFa(2)), "quantizer"),
    "InputDoReFa": (InputDoReFa(3), "quantizer"),
    "Sign": (Sign(), "quantizer"),
    "SwishSign": (SwishSign(), "quantizer"),
    "ApproxSign": (ApproxSign(), "quantizer"),
    "SteHeaviside": (SteHeaviside(), "quantizer"),
    "ProgressiveSign": (ProgressiveSign(), "quantizer"),
    "GradientDoReFa": (nn.Sequential(GradientDoReFa(4), nn.ReLU()), "identity relu"),
    "InputDoReFa off": (InputDoReFa(32), "relu"),
    "quantizer that does nothing": (nn.Sequential(Identity(), nn.ReLU()), "relu"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    module, expected = MODULES[name]
    assert kinds(captured(randomized(nn.Sequential(module)), image())) == expected.split()


SIGNALS: dict[str, tuple[nn.Module, str]] = {
    "Conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), "conv"),
    "Conv1d circular": (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), "pad conv"),
    "QConv1d": (QConv1d(4, 5, 3, padding=1, **LOW_BIT), "low_bit"),
    "BatchNorm1d": (nn.BatchNorm1d(4), "batch_norm"),
    "MaxPool1d": (nn.MaxPool1d(3, 2, ceil_mode=True), "max_pool"),
    "AvgPool1d": (nn.AvgPool1d(3, 2, padding=1), "avg_pool"),
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(1), "global_avg_pool"),
    "AdaptiveMaxPool1d": (nn.AdaptiveMaxPool1d(1), "max_pool"),
    "ConstantPad1d": (nn.ConstantPad1d(1, 2.0), "pad"),
    "mean": (Net(lambda m, x: x.mean(-1)), "global_avg_pool"),
    "Flatten": (nn.Flatten(), "flatten"),
    "as an image of one row": (Net(lambda m, x: F.relu(x.unsqueeze(2)).squeeze(2) * 2), "identity relu identity times"),
    "Softmax": (nn.Softmax(dim=1), "softmax"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signals(name: str) -> None:
    module, expected = SIGNALS[name]
    assert kinds(captured(randomized(nn.Sequential(module)), torch.randn(2, 4, 9))) == expected.split()


VECTORS: dict[str, tuple[nn.Module, str]] = {
    "Linear": (nn.Linear(4, 3, bias=False), "linear"),
    "QLinear": (QLinear(4, 3, **LOW_BIT), "low_bit"),
    "BatchNorm1d": (nn.BatchNorm1d(4), "batch_norm"),
    "Flatten": (nn.Flatten(), ""),
    "softmax": (Net(lambda m, x: F.log_softmax(x, dim=-1)), "softmax"),
    "constants": (Net(lambda m, x: (x - m.slopes) * m.slopes.detach()[None]), "plus times"),
    "select": (Net(lambda m, x: x[:, 1:3]), "select"),
    "PReLU": (nn.PReLU(4), "leaky_relu"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    module, expected = VECTORS[name]
    assert kinds(captured(randomized(nn.Sequential(module)), torch.randn(2, 4))) == expected.split()


# Settings of nodes


def test_settings_of_a_convolution() -> None:
    conv = nn.Conv2d(4, 6, (2, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
    node = only(captured(nn.Sequential(conv).eval(), torch.randn(1, 4, 12, 12)), "conv")
    assert {k: v for k, v in node.settings.items() if k not in ("weight", "bias")} == {
        "kernel_size": (2, 5),
        "stride": (2, 1),
        "padding": (1, 1, 2, 2),
        "dilation": (1, 2),
        "groups": 2,
    }
    assert torch.equal(node.settings["weight"], conv.weight)
    assert not node.settings["weight"].requires_grad
    assert conv.bias is not None
    assert torch.equal(node.settings["bias"], conv.bias)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_same_padding_is_larger_behind() -> None:
    node = only(captured(nn.Sequential(nn.Conv2d(4, 1, (2, 3), padding="same")).eval(), image()), "conv")
    assert node.settings["padding"] == (0, 1, 1, 1)


def test_ceil_mode_is_padding_behind() -> None:
    x = torch.randn(2, 4, 6, 7)
    node = only(captured(nn.MaxPool2d(3, 2, ceil_mode=True).eval(), x), "max_pool")
    assert node.settings["padding"] == (0, 1, 0, 0)
    assert (node.settings["kernel_size"], node.settings["stride"]) == ((3, 3), (2, 2))
    y = F.max_pool2d(F.pad(x, (0, 0, 0, 1), value=-torch.inf), 3, 2)
    assert torch.equal(node.function(x), y)


def test_settings_of_padding() -> None:
    model = Net(lambda m, x: F.pad(x, (1, 2, 3, 4, 0, 5), value=0.5)).eval()
    settings = only(captured(model, image()), "pad").settings
    assert settings == {"padding": (3, 4, 1, 2), "channels": (0, 5), "mode": "constant", "value": 0.5}


def test_channels_of_a_shuffle() -> None:
    node = only(captured(nn.ChannelShuffle(3).eval(), torch.randn(1, 6, 2, 2)), "select")
    assert node.settings["channels"] == (0, 2, 4, 1, 3, 5)


@pytest.mark.parametrize("shape", [(2, 5), (3, 5, 7), (2, 5, 3, 3), (1, 5, 8, 9), (4, 5, 1, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_batch_norm_is_one_rounding_of_its_settings(shape: tuple[int, ...], channels_last: bool) -> None:
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](5)
    randomized(norm)
    x = torch.randn(shape) * 3
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    settings = only(captured(norm, x), "batch_norm").settings
    per_channel = (1, 5, *[1] * (len(shape) - 2))
    # The product of two floats is exact in float64, and the sum almost always, so float32 rounds once.
    exact = x.double() * settings["multiply"].view(per_channel).double()
    exact += settings["offset"].view(per_channel).double()
    assert torch.equal(norm(x), exact.float())


def test_constants_are_float32_per_channel() -> None:
    model = Net(lambda m, x: (x + m.mean) * 3).eval()
    found = captured(model, image())
    assert torch.equal(only(found, "plus").settings["constant"], model.mean.flatten())  # type: ignore[operator]
    assert torch.equal(only(found, "times").settings["constant"], torch.full((4,), 3.0))


# Whole nets


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (LeNet8(), (1, 8, 8)),
        (LeNet28(width=0.25), (1, 28, 28)),
        (SVHNNet("D"), (3, 40, 40)),
        (ResNet20(width=4), (3, 16, 16)),
        (ResNet18(width=4, num_classes=7), (3, 32, 32)),
    ],
)
def test_zoo(model: nn.Module, shape: tuple[int, ...], quantized: bool) -> None:
    model = copy.deepcopy(model)
    if quantized:
        quantize_(model, LowBitConfig(1, 2))
    found = captured(randomized(model), torch.rand(1, *shape))
    assert found.output_names == ("output",)
    assert [p.what for p in found.problems] == ([] if quantized else [NO_LOW_BIT])
    assert kinds(found).count("low_bit") == sum(isinstance(m, (QConv2d, QLinear)) for m in model.modules())


class ShuffleUnit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(inplace=True),  # changes a half of its input, and not the other one
            nn.Conv2d(4, 4, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
            nn.BatchNorm2d(4),
        )

    def forward(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=1)
        out = torch.cat((one, self.branch(two)), dim=1)
        batch, channels, height, width = out.size()
        out = out.view(batch, 2, channels // 2, height, width)
        return torch.transpose(out, 1, 2).contiguous().view(batch, -1, height, width)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, 2, 1)
        self.up = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.hardsigmoid(self.up(F.relu(self.down(self.pool(x)), inplace=True))) * x
        return out


class InvertedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(8, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(inplace=True),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.Hardswish(inplace=True),
            SqueezeExcitation(16),
            nn.Conv2d(16, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(x)
        return out


class DenseBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 3 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 3 * i, 3, 3, padding=1, bias=False) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            joined = torch.cat(features, 1)
            features.append(conv(F.relu(norm(joined), inplace=True)))
        return F.relu(torch.cat(features, 1), inplace=True)


class Fire(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.activation = nn.ReLU(inplace=True)
        self.one = nn.Conv2d(2, 4, 1)
        self.three = nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.squeeze(x))
        return torch.cat([self.activation(self.one(x)), self.activation(self.three(x))], 1)


class BasicBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.downsample = nn.Sequential(nn.Conv2d(8, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        identity = self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        result: Tensor = self.relu(out)
        return result


class PaddedShortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) + F.pad(x[:, :, ::2, ::2] if x.dim() == 3 else F.avg_pool2d(x, 2), (0,) * 4 + (4, 4))
        return out


BLOCKS = [ShuffleUnit, InvertedResidual, DenseBlock, Fire, BasicBlock, PaddedShortcut]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks(block: Callable[[], nn.Module], quantized: bool, channels_last: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), block(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if quantized:
        quantize_(model, LowBitConfig(2, 2, first="same", last="same"))
    randomized(model)
    x = torch.rand(2, 3, 8, 8)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        x = x.contiguous(memory_format=torch.channels_last)
    captured(model, x)


# Names and places


def test_names_are_paths() -> None:
    block = BasicBlock()
    found = captured(randomized(nn.Sequential(block)), torch.randn(1, 8, 6, 6))
    assert [node.name for node in found.graph] == [
        "input",
        "0.downsample.0",
        "0.downsample.1",
        "0.conv1",
        "0.bn1",
        "0.relu",
        "0.conv2",
        "0.bn2",
        "0.add",
        "0.relu@2",
    ]


def test_a_module_that_is_called_twice_gives_two_nodes() -> None:
    layer = QLinear(4, 4, **LOW_BIT)
    found = captured(nn.Sequential(layer, nn.Sigmoid(), layer, nn.ReLU(), layer).eval(), torch.rand(1, 4))
    assert [node.name for node in found.graph] == ["input", "0", "1", "0@2", "3", "0@3"]
    weights = [node.settings["weight"] for node in found.graph if node.kind == "low_bit"]
    assert len(weights) == 3
    assert all(torch.equal(weight, layer.weight_codes().float()) for weight in weights)


def test_names_of_functions_have_the_callers_path() -> None:
    model = nn.Sequential(nn.ReLU(), Net(lambda m, x: F.relu(-x) + x))
    assert [n.name for n in captured(model.eval(), image()).graph] == ["input", "0", "1.neg", "1.relu", "1.add"]


def test_padding_in_front_of_a_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")).eval()
    assert [node.name for node in captured(model, image()).graph] == ["input", "0.pad", "0"]


def test_place_names_module_class_and_line() -> None:
    graph = captured(nn.Sequential(Net(lambda m, x: m.conv(x).relu())).eval(), image()).graph
    assert graph["0.conv"].place.startswith("0.conv (Conv2d), called from test_capture.py:")
    assert graph["0.relu"].place.startswith("0 (Net), called from test_capture.py:")
    graph = captured(nn.Sequential(nn.ReLU()).eval(), image()).graph
    assert graph["0"].place == "0 (ReLU)"


def test_the_graph_prints() -> None:
    text = str(captured(nn.Sequential(nn.MaxPool2d(2), nn.Flatten()).eval(), image()).graph)
    assert "0 [4×3×3] = max_pool(input, kernel_size=(2, 2)" in text
    assert text.endswith("return 1")


# Inputs and outputs


class Outputs(NamedTuple):
    scores: Tensor
    features: Tensor | None


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda m, x: x.relu(), ("output",)),
        (lambda m, x: (x.relu(), -x), ("output_0", "output_1")),
        (lambda m, x: [x.relu(), x.relu()], ("output_0", "output_1")),
        (lambda m, x: {"scores": x.relu(), "features": x}, ("scores", "features")),
        (lambda m, x: Outputs(x.relu(), None), ("scores",)),
    ],
)
def test_outputs(function: Callable[[Any, Tensor], Any], names: tuple[str, ...]) -> None:
    assert captured(Net(function).eval(), image()).output_names == names


def test_outputs_may_be_nested_and_equal() -> None:
    def function(m: Any, x: Tensor) -> Any:
        y = x.relu()
        return {"out": y, "aux": {"a": (y, -x)}}

    found = capture(Net(function).eval(), image())
    assert found.output_names == ("out", "aux.a.0", "aux.a.1")
    assert found.graph.outputs == ("relu", "relu", "neg")


def test_inputs_have_the_names_of_parameters() -> None:
    found = captured(TwoInputs().eval(), image(), image(), image())
    assert [node.name for node in found.graph.inputs] == ["left", "right", "input_2"]
    assert [node.shape for node in found.graph.inputs] == [SHAPE] * 3


def test_an_input_that_is_not_needed_stays() -> None:
    class First(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x.relu()

    assert len(captured(First().eval(), image(), image()).graph.inputs) == 2


def test_what_no_output_needs_is_left_out() -> None:
    found = captured(Net(lambda m, x: (torch.sin(m.conv(x)), x.relu())[1]).eval(), image())
    assert kinds(found) == ["relu"]


# Changes in place


def test_in_place_on_an_object_with_two_names() -> None:
    def function(m: Any, x: Tensor) -> Any:
        shortcut = y = m.conv(x)
        F.relu_(y)
        return shortcut + x

    assert kinds(captured(Net(function).eval(), image())) == ["conv", "relu", "add"]


def test_an_augmented_sum() -> None:
    def function(m: Any, x: Tensor) -> Any:
        y = m.conv(x)
        y += x
        y *= 2
        return y.relu_()

    assert kinds(captured(Net(function).eval(), image())) == ["conv", "add", "times", "relu"]


def test_the_input_itself_may_be_changed() -> None:
    x = image()
    was = x.clone()
    captured(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3)).eval(), x)
    assert torch.equal(x, was)


def test_a_view_that_does_not_overlap_stays() -> None:
    def function(m: Any, x: Tensor) -> Any:
        one, two = m.conv(x).chunk(2, 1)
        one.relu_()
        return torch.cat([two, one], 1)

    assert kinds(captured(Net(function).eval(), image())) == ["conv", "select", "relu", "select", "concat"]


@pytest.mark.parametrize("late", ["whole", "view"])
def test_a_view_that_overlaps_is_a_problem(late: str) -> None:
    def function(m: Any, x: Tensor) -> Any:
        y = m.conv(x)
        view = y[:, 1:3]
        (view if late == "whole" else y).relu_()
        return -(y if late == "whole" else view)

    assert "changed in place through another view" in problem(Net(function).eval(), image()).what


def test_writing_into_one_image_of_a_batch_is_a_problem() -> None:
    def function(m: Any, x: Tensor) -> Any:
        out = x.clone()
        out[:1] = 0
        return out.relu()

    found = capture(Net(function).eval(), image())
    assert [p.what for p in found.problems if p.what != NO_LOW_BIT] == ["it writes to some images of a batch only"]
    x = image()
    values = found.graph.replay([x])  # what PyTorch can compute, it does
    assert torch.equal(values[found.graph.outputs[0]][1:], x[1:].relu())


def test_constants_may_be_made_in_place() -> None:
    def function(m: Any, x: Tensor) -> Any:
        mask = torch.ones(4, 1, 1)
        mask[1:3] = 0
        return x * mask

    node = only(captured(Net(function).eval(), image()), "times")
    assert node.settings["constant"].tolist() == [1, 0, 0, 1]


def test_lists_that_grow_after_the_call() -> None:
    def function(m: Any, x: Tensor) -> Any:
        parts = [x]
        joined = torch.cat(parts * 2, 1)
        parts.append(joined)
        return torch.cat(parts, 1)

    assert kinds(captured(Net(function).eval(), image())) == ["concat", "concat"]


# Models in the wild


def test_hooks_of_the_user_are_part_of_the_model() -> None:
    model = nn.Sequential(QConv2d(4, 4, 1, **LOW_BIT), nn.ReLU()).eval()
    seen = []
    model[0].register_forward_hook(lambda module, args, result: seen.append(result.shape))
    model[0].register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    model[1].register_forward_hook(lambda module, args, result: -result)
    assert kinds(captured(model, image())) == ["times", "low_bit", "relu", "times"]
    assert seen


def test_parametrized_weights_are_constants() -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
    )
    assert kinds(captured(model.eval(), image())) == ["conv", "conv"]


def test_a_subclass_is_what_it_calls() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std()
            return F.conv2d(input, weight, self.bias).relu()

    assert kinds(captured(nn.Sequential(Standardized(4, 4, 3)).eval(), image())) == ["conv", "relu"]


def test_compiled_models() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    assert kinds(captured(torch.compile(model, backend="eager"), image())) == ["conv", "relu"]  # type: ignore[arg-type]


def test_in_inference_mode() -> None:
    with torch.inference_mode():
        x = image()
        found = capture(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3)).eval(), x)
    assert kinds(found) == ["relu", "conv"]


def test_an_example_with_a_gradient() -> None:
    captured(nn.Sequential(nn.ReLU(inplace=True)).eval(), image().requires_grad_())


def test_generator_is_left_alone() -> None:
    model, x = Net(lambda m, x: x + torch.randn(1)).eval(), image()
    before = torch.get_rng_state()
    assert problems(model, x)
    assert torch.equal(torch.get_rng_state(), before)


# Random nets


@st.composite
def nets(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int, int]]:
    """A sequential net of layers that fit, and the shape of its images."""
    seed = draw(st.integers(0, 2**16))
    torch.manual_seed(seed)
    channels, size = draw(st.sampled_from([1, 2, 4, 6])), draw(st.integers(5, 9))
    shape = (channels, size, size)
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["conv", "low_bit", "norm", "act", "pool", "pad", "shuffle", "gate", "residual"]))
        if kind in ("conv", "low_bit"):
            new, kernel = draw(st.sampled_from([2, 4, 6])), draw(st.integers(1, min(3, size)))
            options: dict[str, Any] = {"padding": kernel // 2, "stride": draw(st.integers(1, 2))}
            cls: Any = nn.Conv2d if kind == "conv" else QConv2d
            layers.append(cls(channels, new, kernel, **options, **({} if kind == "conv" else LOW_BIT)))
            channels, size = new, (size + 2 * (kernel // 2) - kernel) // options["stride"] + 1
        elif kind == "norm":
            layers.append(nn.BatchNorm2d(channels))
        elif kind == "act":
            acts = [nn.ReLU(True), nn.ReLU6(), nn.PReLU(), nn.Hardswish(True), nn.SiLU(), nn.Softmax(1), nn.Dropout()]
            layers.append(draw(st.sampled_from(acts)))
        elif kind == "pool" and size >= 3:
            pools = [nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 2, 1)]
            layers.append(pool := draw(st.sampled_from(pools)))
            size = pool(torch.zeros(1, 1, size, size)).shape[-1]
        elif kind == "pad":
            layers.append(draw(st.sampled_from([nn.ZeroPad2d(1), nn.ReplicationPad2d((1, 1, 1, 1))])))
            size += 2
        elif kind == "shuffle" and channels % 2 == 0:
            layers.append(nn.ChannelShuffle(2))
        elif kind == "gate":
            layers.append(Net(lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid_()))
        elif kind == "residual":
            layers.append(Net(lambda m, x: x + F.relu(x)))
    if draw(st.booleans()):
        layers += [nn.Flatten(), QLinear(channels * size * size, 3, **LOW_BIT), nn.BatchNorm1d(3), nn.Linear(3, 2)]
    return randomized(nn.Sequential(*layers, nn.Identity())), shape


@settings(max_examples=60, deadline=None)
@given(nets())
def test_random_nets(net: tuple[nn.Module, tuple[int, int, int]]) -> None:
    model, shape = net
    captured(model, torch.randn(1, *shape))
