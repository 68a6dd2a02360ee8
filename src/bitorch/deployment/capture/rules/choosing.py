"""Rules for choices between two tensors by a mask: where, masked_fill, tril, triu."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .pairs import Number, aligned, channels_of, operand


def where(call: Reader, condition: Tensor, input: Number, other: Number) -> str:
    """The rule of torch.where with a condition that is the same for all images."""
    if call.varies(condition):
        call.read(condition)  # where it was refused already, that is told
        raise Refusal(
            "it chooses by a condition that depends on the image", f"Use relu, clamp, minimum or maximum, {PARTIAL}"
        )
    given = [input, other, condition]
    channels = channels_of(call, given)
    names = [operand(call, one, channels, given) for one in given]
    return call.add("where", *names, function=aligned(_chosen), channels_at=channels)


def _chosen(one: Tensor, other: Tensor, condition: Tensor) -> Tensor:
    return torch.where(condition != 0, one, other)


def where_of(call: Reader, self: Tensor, condition: Tensor, other: Number) -> str:
    """The rule of x.where(condition, y)."""
    return where(call, condition, self, other)


def masked_fill(call: Reader, input: Tensor, mask: Tensor, value: Number) -> str:
    """The rule of x.masked_fill."""
    return where(call, mask, value, input)


def tril(call: Reader, input: Tensor, diagonal: int = 0) -> str:
    """The rule of torch.tril: of the last two axes."""
    return where(call, torch.ones(input.shape[-2:]).tril(diagonal), input, 0.0)


def triu(call: Reader, input: Tensor, diagonal: int = 0) -> str:
    """The rule of torch.triu: of the last two axes."""
    return where(call, torch.ones(input.shape[-2:]).triu(diagonal), input, 0.0)
