"""Rules for functions of single numbers and their like: powers, shrinking, gates, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .elementwise import leaky_relu
from .numbers import float32
from .pairs import div


def celu(call: Reader, input: Tensor, alpha: float = 1.0, inplace: bool = False) -> str:
    """The rule of F.celu."""
    if not float32(alpha) > 0:
        raise Refusal(f"a celu with alpha={alpha} cannot be deployed", "Use an alpha above 0")
    return _with_numbers(call, "celu", input, alpha=alpha)


def softplus(call: Reader, input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> str:
    """The rule of F.softplus."""
    if not float32(beta) > 0:
        raise Refusal(f"a softplus with beta={beta} cannot be deployed", "Use a beta above 0")
    return _with_numbers(call, "softplus", input, beta=beta, threshold=threshold)


def threshold(call: Reader, input: Tensor, threshold: float, value: float, inplace: bool = False) -> str:
    """The rule of F.threshold."""
    return _with_numbers(call, "threshold", input, threshold=threshold, value=value)


def hardshrink(call: Reader, input: Tensor, lambd: float = 0.5) -> str:
    """The rule of F.hardshrink, which leaves all as it is where lambd is below 0."""
    if float32(lambd) < 0:
        channels = call.channel_axis(input)
        return call.add("identity", call.read(input, channels), channels_at=channels)
    return _with_numbers(call, "hardshrink", input, **{"lambda": lambd})


def softshrink(call: Reader, input: Tensor, lambd: float = 0.5) -> str:
    """The rule of F.softshrink."""
    return _with_numbers(call, "softshrink", input, **{"lambda": lambd})


def _with_numbers(call: Reader, kind: str, input: Tensor, **numbers: float) -> str:
    settings: dict[str, Any] = {key: float32(value) for key, value in numbers.items()}
    for key, value in settings.items():
        if not math.isfinite(value):
            raise Refusal(f"its {key} is {value}, which no file can hold", f"Use finite numbers, {PARTIAL}")
    channels = call.channel_axis(input)
    return call.add(kind, call.read(input, channels), channels_at=channels, **settings)


def rrelu(
    call: Reader,
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> str:
    """The rule of F.rrelu, which outside training has the slope between its two."""
    if training:
        raise Refusal("its slope is random", "Pass training=self.training, or use nn.RReLU")
    return leaky_relu(call, input, (lower + upper) / 2)


def tanhshrink(call: Reader, input: Tensor) -> str:
    """The rule of F.tanhshrink: x − tanh(x), as PyTorch computes it."""
    channels = call.channel_axis(input)
    name = call.read(input, channels)
    shape = call.shape(name)
    tanh = call.add("tanh", name, function=torch.tanh, shape=shape, step="tanh", channels_at=channels)
    minus = _times(call, tanh, -1.0, torch.neg, "neg", channels)
    return call.add("add", name, minus, function=torch.add, channels_at=channels)


def glu(call: Reader, input: Tensor, dim: int = -1) -> str:
    """The rule of F.glu: one half of the channels times the sigmoid of the other, as PyTorch computes it."""
    channels = dim % input.dim()
    name = call.read(input, channels)
    shape = call.shape_along(channels)
    half = shape[0]
    parts = [
        call.add(
            "select",
            name,
            function=_taking(first, half),
            shape=shape,
            step=step,
            channels_at=channels,
            channels=tuple(range(first, first + half)),
        )
        for step, first in (("first", 0), ("second", half))
    ]
    gate = call.add("sigmoid", parts[1], function=torch.sigmoid, shape=shape, step="sigmoid", channels_at=channels)
    return call.add("mul", parts[0], gate, function=torch.mul, channels_at=channels)


def _taking(first: int, count: int) -> Callable[[Tensor], Tensor]:
    return lambda v: v[:, first : first + count]


def softmax(log: bool) -> Callable[..., str]:
    """Return the rule of softmax or log_softmax over any axis of an image."""

    def rule(call: Reader, input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> str:
        channels = _softmax_axis(input, dim)
        return call.add("softmax", call.read(input, channels), channels_at=channels, log=log)

    return rule


def _softmax_axis(input: Tensor, dim: int | None) -> int:
    implicit = 0 if input.dim() in (0, 1, 3) else 1  # as F.softmax has it
    channels = implicit if dim is None else dim % input.dim()
    if channels == 0:
        raise Refusal("it is a softmax over the batch", "Use dim=1, or dim=-1 of tokens")
    return channels


def softmin(call: Reader, input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> str:
    """The rule of F.softmin: the softmax of −x."""
    channels = _softmax_axis(input, dim)
    minus = _times(call, call.read(input, channels), -1.0, torch.neg, "neg", channels)
    return call.add("softmax", minus, function=lambda v: v.softmax(dim=1), channels_at=channels, log=False)


def reciprocal(call: Reader, input: Tensor) -> str:
    """The rule of torch.reciprocal."""
    channels = call.channel_axis(input)
    return call.add("reciprocal", call.read(input, channels), channels_at=channels)


def divided_by(call: Reader, input: Tensor, other: float | Tensor) -> str:
    """The rule of number / x, which PyTorch computes as the reciprocal times the number."""
    if isinstance(other, Tensor):
        return div(call, other, input)
    number = float32(other)
    if not math.isfinite(number):
        raise Refusal(f"it divides {number} by numbers of the image", "Use finite numbers")
    if number == 1:
        return reciprocal(call, input)
    channels = call.channel_axis(input)
    name = call.read(input, channels)
    inverse = call.add(
        "reciprocal", name, function=torch.reciprocal, shape=call.shape(name), step="reciprocal", channels_at=channels
    )
    return _times(call, inverse, number, lambda v: v * number, "", channels)


def _times(
    call: Reader, name: str, number: float, function: Callable[[Tensor], Tensor], step: str, channels: int
) -> str:
    shape = call.shape(name)
    constant = torch.full((shape[0],), number, dtype=torch.float32)
    return call.add("times", name, function=function, shape=shape, step=step, channels_at=channels, constant=constant)


#: Exponents whose power is one function of a number, or of its square: what PyTorch computes for them.
_ROOTS = {0.5: ("sqrt", torch.sqrt), -0.5: ("rsqrt", torch.rsqrt), -1.0: ("reciprocal", torch.reciprocal)}


def pow(call: Reader, input: float | Tensor, exponent: float | Tensor) -> str:
    """The rule of torch.pow, of exponents that PyTorch computes as products, roots and reciprocals."""
    known = (1.0, 2.0, 3.0, -2.0, *_ROOTS)
    if not isinstance(input, Tensor) or isinstance(exponent, Tensor) or float(exponent) not in known:
        raise Refusal(
            "powers other than −2, −1, −0.5, 0.5, 1, 2 and 3 cannot be deployed",
            f"Write powers as products, as x * x * x, {PARTIAL}",
        )
    channels = call.channel_axis(input)
    name, power = call.read(input, channels), float(exponent)
    if power == 1:
        return call.add("identity", name, channels_at=channels)
    if power in _ROOTS:
        kind, function = _ROOTS[power]
        return call.add(kind, name, function=function, channels_at=channels)
    if power == 2:
        return call.add("mul", name, name, function=torch.mul, channels_at=channels)
    shape = call.shape(name)
    square = call.add("mul", name, name, function=torch.mul, shape=shape, step="square", channels_at=channels)
    if power == 3:
        return call.add("mul", square, name, function=torch.mul, channels_at=channels)
    return call.add("reciprocal", square, function=torch.reciprocal, channels_at=channels)


def square(call: Reader, input: Tensor) -> str:
    """The rule of torch.square."""
    return pow(call, input, 2)
