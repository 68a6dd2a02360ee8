"""PACT as an activation of its own, as BITorch has it; the quantizer of layers is `quantizations.InputPACT`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..quantizations.base import as_internal
from .config import config

_MOST_BITS = 32


class PactActFn(Function):
    """round(clamp(x, 0, α)·s)/s with s = (2^bits − 1)/α, in this order of operations.

    Backward: g·1[0 ≤ x ≤ α] to x, Σ g·1[x ≥ α] to α.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, bits: int) -> Tensor:
        """Quantize a float tensor of any shape, in its dtype; alpha has one number."""
        ctx.save_for_backward(x, alpha)
        scale = (2**bits - 1) / alpha
        clamped = torch.clamp(as_internal(x, "PactActFn"), min=torch.zeros_like(alpha), max=alpha)
        quantized: Tensor = torch.round(clamped * scale) / scale
        return quantized.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of x and alpha, and None for bits."""
        x, alpha = ctx.saved_tensors
        inside = (x >= 0) & (x <= alpha)
        above = (output_gradient * (x >= alpha)).sum().reshape(alpha.shape)
        return output_gradient * inside, above, None


class Pact(nn.Module):
    """Activations to 2^bits levels in [0, α] with a learned α, beginning at 10 (Choi et al. 2018, PACT).

    It gives values, and low-bit layers behind it quantize them again; as their own quantizer take
    `bitorch.quantizations.InputPACT`, whose α `calibrate` starts where the inputs are.

    Args:
        bits: 1…32; None takes `bitorch.layers.config.config.pact_bits`.

    Attributes:
        alpha: the Parameter α, 0-dim.

    Raises:
        ValueError, TypeError: bits outside 1…32, or no integer.
    """

    def __init__(self, bits: int | None = None) -> None:
        super().__init__()
        given = config.pact_bits if bits is None else bits
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"bits must be an int from 1 to {_MOST_BITS}, got {given!r}")
        if not 1 <= given <= _MOST_BITS:
            raise ValueError(f"bits must be from 1 to {_MOST_BITS}, got {given}")
        self.bits = given
        self.alpha = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        """Quantize x, a float tensor of any shape."""
        quantized: Tensor = PactActFn.apply(x, self.alpha, self.bits)
        return quantized

    def extra_repr(self) -> str:
        return f"bits={self.bits}"
