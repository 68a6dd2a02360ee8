"""Rules for arithmetic of two tensors, or of one with a constant: add, sub, mul, div.

A constant with one number, or one for each channel, is a setting of the node. Any other constant is a node of its own,
and the two are a pair; each of a pair is repeated along the axes where it has one place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .numbers import finite, minus_one, per_channel, with_channels

Number = int | float | Tensor


def add(call: Reader, input: Number, other: Number, *, alpha: float = 1) -> str:
    """The rule of torch.add."""
    _check_alpha(alpha)
    if call.varies(input) and call.varies(other):
        return pair(call, "add", torch.add, input, other)
    x, constant = with_constant(call, input, other)
    found = per_channel(call, constant, x)
    if found is None:
        return pair(call, "add", torch.add, input, other)
    numbers, channels = found
    return call.add("plus", call.read(x, channels), channels_at=channels, constant=numbers)


def sub(call: Reader, input: Number, other: Number, *, alpha: float = 1) -> str:
    """The rule of torch.sub: x − c is x + (−c), and c − x is (−x) + c, without another rounding."""
    _check_alpha(alpha)
    if call.varies(input) and call.varies(other):
        return pair(call, "sub", torch.sub, input, other)
    x, constant = with_constant(call, input, other)
    found = per_channel(call, constant, x)
    if found is None:
        return pair(call, "sub", torch.sub, input, other)
    numbers, channels = found
    if x is input:
        return call.add("plus", call.read(x, channels), channels_at=channels, constant=-numbers)
    function = with_channels(torch.add, numbers)
    return call.add("plus", _negative(call, x, channels), function=function, channels_at=channels, constant=numbers)


def _negative(call: Reader, x: Tensor, channels: int) -> str:
    name = call.read(x, channels)
    return call.add(
        "times",
        name,
        function=torch.neg,
        shape=call.shape(name),
        step="neg",
        channels_at=channels,
        constant=minus_one(x, channels),
    )


def rsub(call: Reader, input: Number, other: Number, *, alpha: float = 1) -> str:
    """The rule of torch.rsub: other − input."""
    return sub(call, other, input, alpha=alpha)


def _check_alpha(alpha: float) -> None:
    if alpha != 1:
        raise Refusal(f"a sum with alpha={alpha} cannot be deployed", "Multiply first: x + alpha * y")


def mul(call: Reader, input: Number, other: Number) -> str:
    """The rule of torch.mul: with a constant, or of two tensors."""
    if call.varies(input) and call.varies(other):
        return pair(call, "mul", torch.mul, input, other)
    x, constant = with_constant(call, input, other)
    found = per_channel(call, constant, x)
    if found is None:
        return pair(call, "mul", torch.mul, input, other)
    numbers, channels = found
    return call.add("times", call.read(x, channels), channels_at=channels, constant=finite(numbers))


def div(call: Reader, input: Number, other: Number, *, rounding_mode: str | None = None) -> str:
    """The rule of torch.div."""
    if rounding_mode is not None:
        raise Refusal("a division that rounds cannot be deployed", "Divide without rounding_mode")
    if call.varies(other):
        return pair(call, "div", torch.div, input, other)
    x, constant = with_constant(call, input, other)
    found = per_channel(call, constant, x)
    if found is None:
        return pair(call, "div", torch.div, input, other)
    numbers, channels = found
    if bool(((numbers == 0) | numbers.isnan()).any()):
        raise Refusal("it divides by a constant that is 0 or NaN", "Divide by other numbers")
    return call.add("divide", call.read(x, channels), channels_at=channels, constant=numbers)


def pair(call: Reader, kind: str, function: Callable[..., Tensor], one: Any, other: Any) -> str:
    given = [one, other]
    channels = channels_of(call, given)
    names = [operand(call, each, channels, given) for each in given]
    return call.add(kind, *names, function=aligned(function), channels_at=channels)


def channels_of(call: Reader, given: list[Any]) -> int:
    """The axis that tensors are read along: that of the first one that is as large as the result."""
    rank = call.result.dim()
    varying = [x for x in given if call.varies(x)]
    for x in varying:
        if x.dim() != rank:
            raise Refusal(
                f"it broadcasts {['batch', *x.shape[1:]]} to {['batch', *call.result.shape[1:]]}",
                f"Give both tensors as many dimensions, {PARTIAL}",
            )
    whole = [x for x in varying if tuple(x.shape) == tuple(call.result.shape)]
    return call.channel_axis((whole if whole else varying)[0])


def operand(call: Reader, x: Any, channels: int, others: list[Any]) -> str:
    """Return the node of one of several tensors, or of a constant among them.

    Args:
        channels: the axis of the result that is its channels.
        others: all of them: where one of the others is as large as the result, this one need not be repeated.
    """
    shape = tuple(call.result.shape)
    sizes = [_shape(y, len(shape)) for y in others if y is not x]
    axes = [axis for axis in range(1, len(shape)) if any(size[axis] == shape[axis] for size in sizes)]
    if call.varies(x):
        return call.read_once(x, channels, axes)
    return call.constant(x, channels, axes)


def _shape(x: Any, rank: int) -> tuple[int, ...]:
    shape = tuple(x.shape) if isinstance(x, Tensor) else ()
    return (*[1] * (rank - len(shape)), *shape)


def aligned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function of nodes' values, [batch, C, *rows] of any number of row axes, the last ones together."""

    def of_values(*values: Tensor) -> Tensor:
        rank = max(value.dim() for value in values)
        return function(*(value.reshape(*value.shape[:2], *[1] * (rank - value.dim()), *value.shape[2:])
                          if 1 < value.dim() < rank else value for value in values))  # fmt: skip

    return of_values


def with_constant(call: Reader, one: Any, other: Any) -> tuple[Tensor, Tensor]:
    """The tensor that depends on the image, and the constant."""
    x, constant = (one, other) if call.varies(one) else (other, one)
    assert isinstance(x, Tensor)
    return x, torch.as_tensor(constant)
