"""Constants that a node has as settings: one number, or one for each channel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ....same_numbers import same_numbers
from ..problems import Refusal
from ..reader import Reader
from .remedies import constant_per_channel


def float32(number: float | Tensor) -> float:
    """Return a number as PyTorch takes it into arithmetic with float32 tensors."""
    return float(torch.as_tensor(number).to(torch.float32))


def finite(constant: Tensor) -> Tensor:
    """Return a factor, or refuse it."""
    if not bool(constant.isfinite().all()):
        raise Refusal("it multiplies with a constant that is NaN or infinite", "Multiply with finite numbers")
    return constant


def the_same_everywhere(call: Reader, value: float | Tensor, x: Tensor) -> tuple[Tensor, int]:
    """Return `per_channel`, or refuse the constant."""
    found = per_channel(call, torch.as_tensor(value), x)
    if found is None:
        raise Refusal(
            f"its constant of shape {list(torch.as_tensor(value).shape)} differs from pixel to pixel",
            constant_per_channel(x),
        )
    return found


def per_channel(call: Reader, value: Tensor, x: Tensor) -> tuple[Tensor, int] | None:
    """Return a constant as float32 [C], and the axis of x that has these channels.

    The constant has one number for all of x, or one for each place along an axis; None of any other.
    """
    if tuple(call.result.shape) != tuple(x.shape):
        return None
    constant = value.detach().to(torch.float32)
    constant = constant.reshape(*[1] * (x.dim() - constant.dim()), *constant.shape)
    first = constant.flatten()[:1]
    if bool(same_numbers(constant, first).all()):
        channels = call.channel_axis(x)
        return first.expand(channel_count(x, channels)).clone(), channels
    axes = [axis for axis in range(constant.dim()) if not _is_repeated(constant, axis)]
    if len(axes) != 1 or axes[0] == 0 or not call.may_be_channels(x, axes[0]):
        return None
    return constant.movedim(axes[0], 0).flatten(1)[:, 0].clone() if constant.dim() > 1 else constant.clone(), axes[0]


def _is_repeated(x: Tensor, axis: int) -> bool:
    return bool(same_numbers(x, x.narrow(axis, 0, 1)).all())


def with_channels(function: Callable[[Tensor, Tensor], Tensor], constant: Tensor) -> Callable[[Tensor], Tensor]:
    """Of a node's value [batch, C, *rows] and a constant [C]."""
    return lambda v: function(v, constant.view(-1, *[1] * (v.dim() - 2)) if v.dim() > 1 else constant)


def channel_count(x: Tensor, axis: int) -> int:
    """How many channels x has along an axis; 1 of [batch]."""
    return x.shape[axis] if x.dim() > 1 else 1


def minus_one(x: Tensor, axis: int) -> Tensor:
    """−1 for each channel."""
    return torch.full((channel_count(x, axis),), -1, dtype=torch.float32)
