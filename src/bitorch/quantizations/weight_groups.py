"""Scales for groups of inputs: each output channel of a weight has one for every `group_size` weights in a row."""

from __future__ import annotations

import operator
from typing import NamedTuple

import torch
from torch import Tensor

from .base import Quantization
from .bits import FLOAT_BITS
from .own_values import codes_are_values


class GroupCodes(NamedTuple):
    """A weight in integers with a scale for each group of inputs: the value is `codes` times its group's scale.

    Attributes:
        codes: [C_out, …], integers in float32 or float64.
        scale: [C_out, groups], groups = inputs of a channel / group_size.
    """

    codes: Tensor
    scale: Tensor


class GroupedWeight(Quantization):
    """Base of weight quantizers whose scale may be one for each group of inputs of an output channel.

    The inputs of a channel are counted in the order of the weight's axes behind the first. With a group size `codes`
    and `scale` are there, the latter of the weight's shape, but no `max_code`: a channel's sum of codes cannot be
    scaled once. Linear layers scale the sums of groups, up to `exact_group_code`; others compute on the values.

    Args:
        per_channel: whether each output channel has a scale of its own.
        group_size: how many inputs of an output channel share a scale; None: all of them, or the whole weight.

    Raises:
        ValueError: a group size below 1. TypeError: one that is no integer.
    """

    is_pointwise = False
    #: The largest absolute code.
    _largest: int

    def __init__(self, per_channel: bool, group_size: int | None) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.group_size = None if group_size is None else check_group_size(group_size)

    @property
    def no_grid(self) -> str:  # type: ignore[override]  # of the class it is the default
        return "has no fixed grid" if self.group_size is None else "has a scale for each group of inputs"

    def initialize_(self, weight: Tensor) -> None:
        """Check that groups fill the weight's inputs; there is nothing to set.

        Raises:
            ValueError: the group size does not divide the number of inputs.
        """
        self._check_inputs(weight)

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS or self.group_size is not None else self._largest

    @property
    def exact_group_code(self) -> int | None:
        """The largest absolute code where groups have scales and codes times these are what a call gives, or None."""
        has_groups = self.group_size is not None and 0 < self.bit_width < FLOAT_BITS
        return self._largest if has_groups and codes_are_values(self) else None

    def group_codes(self, x: Tensor) -> GroupCodes | None:
        """Return the codes of a weight [C_out, …] and the scale of each group.

        None without a group size, with 32 bits, or where the codes do not stand for what a call gives.
        """
        if self.exact_group_code is None:
            return None
        scale = self.scale(x).flatten(1)[:, :: self.group_size] if x.numel() > 0 else x.new_zeros(len(x), 0)
        return GroupCodes(self.codes(x), scale)

    def _check_inputs(self, weight: Tensor) -> None:
        size, inputs = self.group_size, weight[:1].numel()
        if size is None or inputs % size == 0:
            return
        fitting = max(divisor for divisor in range(1, min(size, inputs) + 1) if inputs % divisor == 0)
        raise ValueError(
            f"group_size={size} does not divide the {inputs} inputs of each output channel of a weight "
            f'{list(weight.shape)}; take one that does, such as {fitting}, or weight_scale="channel" for this layer'
        )

    def _shared(self, weight: Tensor) -> Tensor:
        """Return a weight that has numbers with what shares a scale along the last axis.

        [1, all], [C_out, inputs] per channel, or [C_out · groups, size].

        Raises:
            ValueError: the group size does not divide the number of inputs.
        """
        self._check_inputs(weight)
        if self.group_size is not None:
            return weight.reshape(-1, self.group_size)
        return weight.reshape(len(weight) if self.per_channel else 1, -1)

    def _spread(self, statistic: Tensor, weight: Tensor) -> Tensor:
        """Return a number for each row of `_shared` in a shape that broadcasts against the weight.

        0-dim; [C_out, 1, …] per channel; the weight's own with groups.
        """
        if self.group_size is not None:
            return statistic.unsqueeze(1).expand(-1, self.group_size).reshape(weight.shape)
        return statistic.reshape((len(weight), *[1] * (weight.dim() - 1)) if self.per_channel else ())

    def _no_scale(self, weight: Tensor) -> Tensor:
        """Return the scale of a weight without numbers."""
        if self.group_size is not None:
            return torch.zeros_like(weight)
        return weight.new_zeros((*weight.shape[:1], *[1] * (weight.dim() - 1)) if self.per_channel else ())

    def _scales_text(self) -> str:
        grouped = "" if self.group_size is None else f", group_size={self.group_size}"
        return f"per_channel={self.per_channel}{grouped}"


def check_group_size(size: object) -> int:
    """Return a group size as an int; TypeError for what is no integer, ValueError below 1."""
    try:
        number = operator.index(size)  # type: ignore[arg-type]  # any object may come in; that is what is checked
    except TypeError:
        raise TypeError(f"group_size must be an integer such as 64, or None for no groups, got {size!r}") from None
    if isinstance(size, bool):
        raise TypeError(f"group_size must be an integer such as 64, or None for no groups, got {size!r}")
    if number < 1:
        raise ValueError(f"group_size must be 1 or more, such as 32, 64 or 128, got {number}")
    return number
