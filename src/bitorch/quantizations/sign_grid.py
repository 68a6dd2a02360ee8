"""The grid that all sign-type quantizers share: codes ±1, scale 1."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Quantization, as_internal


class SignGrid(Quantization):
    """Base of the quantizers whose values are ±1: a subclass defines `codes`, with its own gradient."""

    bit_width = 1

    @property
    def max_code(self) -> int | None:
        return 1

    def scale(self, x: Tensor) -> Tensor:
        return torch.ones((), dtype=as_internal(x, type(self).__name__).dtype, device=x.device)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float tensor of any shape to ±1; see the class for the formula."""
        return self.codes(x).to(x.dtype)
