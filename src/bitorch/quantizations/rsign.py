"""Sign with a learned shift per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .approx_sign import ApproxSignFunction
from .arithmetic import Arithmetic
from .base import as_internal
from .layer_sizes import input_channels
from .sign_grid import SignGrid

if TYPE_CHECKING:
    from typing_extensions import Self


class RSign(SignGrid):
    """Forward: sign⁺(x − α_c), +1 for x ≥ α_c, else −1, with a learned shift α per channel. Codes ±1, scale 1.

    Liu et al. 2020, "ReActNet", https://arxiv.org/abs/2003.03488.
    Backward: for x, g·(2 − 2|x − α_c|)·1[|x − α_c| ≤ 1], as ApproxSign; for α_c, minus the sum of that over channel c.
    At x = α_c: +1, and 2g. All zeros, with α = 0: all +1. NaN stays NaN. The bits are fixed: 1.

    The Parameter `shift`, shape [channels, 1, …] with as many ones as there are spatial dimensions, holds α; zeros at
    the start. A QActivation around it should not cancel gradients (gradient_cancellation_threshold=0), for it would do
    that by |x|.

    Args:
        channels: of the input.
        dimensions: how many spatial dimensions come after the channels: 0 for features in the last axis, as of a linear
            layer; 2 for images [batch, channels, height, width].

    Raises:
        ValueError: channels or dimensions that are no such number; an input with other channels.
        TypeError: an input that is not floating point.
    """

    name = "rsign"

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        if dimensions < 0:
            raise ValueError(f"dimensions must be at least 0 (spatial dimensions after the channels), got {dimensions}")
        self.channels = channels
        self.dimensions = dimensions
        self.shift = nn.Parameter(torch.zeros(channels, *[1] * dimensions))

    def for_layer(self, layer: nn.Module) -> Self:
        channels, dimensions = input_channels(layer)
        return type(self)(**{**self.arguments(), "channels": channels, "dimensions": dimensions})

    def arithmetic(self) -> Arithmetic | None:
        return Arithmetic("sign", 1, plus=-self.shift)

    def codes(self, x: Tensor) -> Tensor:
        axis = -1 - self.dimensions
        if x.dim() < -axis or x.shape[axis] != self.channels:
            raise ValueError(
                f"RSign({self.channels}, {self.dimensions}): the input must have {self.channels} channels in axis "
                f"{axis}, got shape {list(x.shape)}"
            )
        codes: Tensor = ApproxSignFunction.apply(as_internal(x, "RSign") - self.shift)
        return codes

    def extra_repr(self) -> str:
        return f"channels={self.channels}, dimensions={self.dimensions}"
