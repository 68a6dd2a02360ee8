"""The grid that all sign-type quantizers share: codes ±1, scale 1."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import Arithmetic
from .base import CodeValue, Quantization, as_internal
from .own_values import is_as_made


class SignGrid(Quantization):
    """Base of the quantizers whose values are ±1: a subclass defines `codes`, with its own gradient, or `scale`."""

    bit_width = 1

    @property
    def max_code(self) -> int | None:
        return 1

    def arithmetic(self) -> Arithmetic | None:
        return Arithmetic("sign", 1)

    def scale(self, x: Tensor) -> Tensor:
        return torch.ones((), dtype=as_internal(x, type(self).__name__).dtype, device=x.device)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float tensor of any shape to ±1; see the class for the formula."""
        codes = self.codes(x)
        if not is_as_made(self, SignGrid, "scale"):  # of a subclass, such as that of XNOR-Net's inputs
            codes = CodeValue.apply(codes, 1, self.scale(x))
        return codes.to(x.dtype)
