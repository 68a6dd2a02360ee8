"""Rules for functions of single numbers: activations, arithmetic, batch norm, softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .numbers import channel_count, finite, minus_one, per_channel, the_same_everywhere, with_channels

_Number = int | float | Tensor


def activation(kind: str) -> Callable[..., str]:
    """Return the rule of a function without parameters: "relu", "sigmoid", …"""

    def rule(call: Reader, input: Tensor, inplace: bool = False) -> str:
        channels = call.channel_axis(input)
        return call.add(kind, call.read(input, channels), channels_at=channels)

    return rule


def leaky_relu(call: Reader, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> str:
    """The rule of F.leaky_relu."""
    slope, channels = the_same_everywhere(call, negative_slope, input)
    return call.add("leaky_relu", call.read(input, channels), channels_at=channels, slope=slope)


def prelu(call: Reader, input: Tensor, weight: Tensor) -> str:
    """The rule of F.prelu."""
    name = call.read(input)
    if call.varies(weight):
        raise Refusal("its slope depends on the image", f"Use a slope that is fixed after training, {PARTIAL}")
    return call.add("leaky_relu", name, slope=weight.detach().flatten().expand(channel_count(input, 1)).clone())


def elu(call: Reader, input: Tensor, alpha: float = 1.0, inplace: bool = False) -> str:
    """The rule of F.elu."""
    numbers, channels = the_same_everywhere(call, alpha, input)
    return call.add("elu", call.read(input, channels), channels_at=channels, alpha=finite(numbers))


def gelu(call: Reader, input: Tensor, approximate: str = "none") -> str:
    """The rule of F.gelu."""
    channels = call.channel_axis(input)
    kind = {"none": "gelu", "tanh": "gelu_tanh"}[approximate]  # PyTorch takes no other
    return call.add(kind, call.read(input, channels), channels_at=channels)


def batch_norm(
    call: Reader,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> str:
    """The rule of F.batch_norm. PyTorch computes x·multiply + offset, and rounds once.

    Its two numbers per channel are what it gives for 1 without mean and bias, and for 0.
    """
    if training or running_mean is None or running_var is None:
        raise Refusal(
            "this batch norm takes its statistics from the batch, so an image's result depends on its neighbours",
            "Train with track_running_stats=True, or pass running_mean and running_var and training=False",
        )
    if any(call.varies(t) for t in (running_mean, running_var, weight, bias)):
        raise Refusal("its statistics or weights depend on the image", f"Use fixed ones, {PARTIAL}")
    given = call.as_called(input)
    if not _has_no_gaps(given):
        raise Refusal(
            "this batch norm reads a part of a larger tensor, for which PyTorch computes it with other roundings",
            "Copy the part first: norm(x.contiguous())",
        )
    if not _is_dense(given):
        return _batch_norm_in_steps(call, input, running_mean, running_var, weight, bias, eps)
    name = call.read(input)
    ones = torch.ones(1, input.shape[1], dtype=torch.float32)
    zeros = torch.zeros_like(ones[0])
    multiply = F.batch_norm(ones, zeros, running_var, weight, None if bias is None else zeros, False, 0.0, eps)[0]
    offset = F.batch_norm(0 * ones, running_mean, running_var, weight, bias, False, 0.0, eps)[0]
    _check_factors(multiply, offset)
    return call.add("batch_norm", name, multiply=multiply.detach(), offset=offset.detach())


def addcmul(call: Reader, input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> str:
    """The rule of torch.addcmul: constant + constant·x, which PyTorch rounds once."""
    x, weight = (tensor2, tensor1) if call.varies(tensor2) else (tensor1, tensor2)
    told = Refusal("this addcmul is not one number per channel + one per channel * x", f"Write x + a * b, {PARTIAL}")
    if value != 1 or not call.varies(x) or call.varies(input) or call.varies(weight):
        raise told
    multiply, offset = per_channel(call, weight, x), per_channel(call, input, x)
    if multiply is None or offset is None or multiply[1] != offset[1]:
        raise told
    _check_factors(multiply[0], offset[0])
    channels = multiply[1]
    name = call.read(x, channels)
    return call.add("batch_norm", name, channels_at=channels, multiply=multiply[0], offset=offset[0])


def _check_factors(*factors: Tensor) -> None:
    if not all(bool(factor.isfinite().all()) for factor in factors):
        raise Refusal(
            "its statistics and weights make a factor or an offset that is NaN or infinite",
            "Load a checkpoint from before it diverged",
        )


def _batch_norm_in_steps(
    call: Reader, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> str:
    """((x − mean) · 1/√(var + eps)) · weight + bias, each rounded: what PyTorch computes of a tensor with strides.

    That is one of tokens [batch, rows, C] as it is transposed for BatchNorm1d, [batch, C, rows].
    """
    factor = 1 / (var.detach() + eps).sqrt()
    steps: list[tuple[str, str, Callable[[Tensor, Tensor], Tensor], Tensor]]
    steps = [("mean", "plus", torch.add, -mean.detach()), ("std", "times", torch.mul, factor)]
    if weight is not None:
        steps.append(("weight", "times", torch.mul, weight.detach()))
    if bias is not None:
        steps.append(("bias", "plus", torch.add, bias.detach()))
    _check_factors(*(constant for _, _, _, constant in steps))
    name = call.read(x)
    for step, kind, function, constant in steps:
        is_last = step == steps[-1][0]
        name = call.add(
            kind, name, function=with_channels(function, constant), step="" if is_last else step, constant=constant
        )
    return name


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor has a layout that PyTorch's fast batch norm takes."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _has_no_gaps(x: Tensor) -> bool:
    """Whether a tensor is contiguous, its axes in whatever order."""
    strides = x.stride()
    return x.permute(sorted(range(x.dim()), key=lambda axis: -strides[axis])).is_contiguous()


def neg(call: Reader, input: Tensor) -> str:
    """The rule of torch.neg: times −1."""
    channels = call.channel_axis(input)
    constant = minus_one(input, channels)
    return call.add("times", call.read(input, channels), channels_at=channels, constant=constant)
