"""PReLU between two learned shifts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RPReLU(nn.Module):
    """f(x) = x − γ + ζ for x > γ, β·(x − γ) + ζ else, with γ, β and ζ learned per channel.

    Liu et al. 2020, "ReActNet", https://arxiv.org/abs/2003.03488. The Parameters `shift_in` (γ, zeros at the start),
    `slope` (β, 0.25) and `shift_out` (ζ, zeros) have the shape [channels].

    Args:
        channels: of the input, in axis 1.

    Raises:
        ValueError: channels below 1; an input with other channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x) for x of shape [batch, channels, …], in x's dtype."""
        if x.dim() < 2 or x.shape[1] != self.channels:
            raise ValueError(
                f"RPReLU({self.channels}): the input must have the shape [batch, {self.channels}, …], "
                f"got {list(x.shape)}"
            )
        shape = (-1, *[1] * (x.dim() - 2))
        shifted = x - self.shift_in.view(shape)
        return (F.prelu(shifted, self.slope.to(shifted.dtype)) + self.shift_out.view(shape)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}"
