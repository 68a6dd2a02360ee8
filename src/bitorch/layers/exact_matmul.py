"""The product of two tensors of codes, exact in floating point, times the scales: see `exact`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .exact import _exact, _full_precision, _narrow, digit_base


class _ScaledMatmul(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, r: Tensor, q_scale: Tensor, r_scale: Tensor, factor: float, max_codes: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(_narrow(q, max_codes[0]), _narrow(r, max_codes[1]), q_scale, r_scale)
        ctx.factor = factor
        base = digit_base(q.shape[-1], max_codes[1], max_codes[0])
        return _exact(lambda digit: q @ digit, r, max_codes[1], base).mul_(q_scale * r_scale * factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, r, q_scale, r_scale = ctx.saved_tensors
        of_left = of_right = None
        with _full_precision(gradient):
            if ctx.needs_input_grad[0]:
                right = r.to(gradient.dtype).mul_(r_scale * ctx.factor)
                of_left = (gradient @ right.transpose(-2, -1)).sum_to_size(q.shape)
            if ctx.needs_input_grad[1]:
                left = q.to(gradient.dtype).mul_(q_scale * ctx.factor)
                of_right = (left.transpose(-2, -1) @ gradient).sum_to_size(r.shape)
        return of_left, of_right, None, None, None, None


def scaled_matmul(
    q: Tensor, r: Tensor, q_scale: Tensor, r_scale: Tensor, factor: float, max_codes: tuple[int, int]
) -> Tensor:
    """Return (q @ r)·(q_scale·r_scale·factor), exact on the integers q [..., M, K] and r [..., K, N].

    Axes in front of the matrices are broadcast. Gradients of codes are those of the values: see `quantizations.base`.

    Args:
        q_scale, r_scale: 0-dim, what one code is worth.
        max_codes: largest absolute code of q and of r.

    Raises:
        ValueError: K is too large for exact sums.
    """
    with _full_precision(q):
        result: Tensor = _ScaledMatmul.apply(q, r, q_scale, r_scale, factor, max_codes)
    return result


def matmul_scale(q_scale: Tensor, r_scale: Tensor, factor: float) -> float:
    """Return what `scaled_matmul` multiplies its sums with, rounded as there."""
    with torch.no_grad():
        return float(q_scale * r_scale * factor)
