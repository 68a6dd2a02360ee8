"""Borders of one value around images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PadModule(nn.Module):
    """Fill borders around the last two dimensions with one value, in an nn.Sequential for example.

    Args:
        padding_left, padding_right: columns; negative ones are cut off.
        padding_top, padding_bottom: rows, likewise.
        padding_value: what is filled in.

    Attributes:
        padding_tensor: the four, in this order, as F.pad takes them.
    """

    def __init__(
        self,
        padding_left: int = 0,
        padding_right: int = 0,
        padding_top: int = 0,
        padding_bottom: int = 0,
        padding_value: float = 0,
    ) -> None:
        super().__init__()
        self.padding_tensor = (padding_left, padding_right, padding_top, padding_bottom)
        self.padding_value = padding_value

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., top + rows + bottom, left + columns + right] for x of shape [..., rows, columns]."""
        return F.pad(x, self.padding_tensor, "constant", self.padding_value)

    def extra_repr(self) -> str:
        left, right, top, bottom = self.padding_tensor
        return f"left={left}, right={right}, top={top}, bottom={bottom}, value={self.padding_value}"
