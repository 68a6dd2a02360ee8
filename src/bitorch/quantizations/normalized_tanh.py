"""Odd codes of tanh(w)/max|tanh(w)|, the inner part of the DoReFa paper's eq. 9, and their gradient.

Large weights are taken in runs on a CPU, so that what all steps of a run touch stays in the cache: each step alone
would be a pass over memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

#: Weights that a CPU takes at once.
_RUN = 2**18


class OddCodes(Function):
    """2·round(n·(v/2 + ½)) − n for v = tanh(w)/M, M = max|tanh(w)| of all, or of each output channel.

    Backward: the chain rule through tanh and the maximum; the rounding passes its gradient straight through. With
    t = tanh(w) and g the gradient of v that is g/M, and at the maxima, shared evenly among them, −sign(t)·Σ g·t/M²
    more; all of it times 1 − t².
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, n: int, per_channel: bool) -> Tensor:
        squashed = torch.tanh(weight)
        divisor = _largest(squashed, per_channel)
        ctx.save_for_backward(squashed, divisor)
        return _codes(squashed, divisor, n)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        squashed, divisor = ctx.saved_tensors
        if divisor.dim() == 0 and _is_large(squashed):
            return _gradient_in_runs(output_gradient, squashed, divisor), None, None
        return _gradient(output_gradient, squashed, divisor), None, None


def odd_codes(weight: Tensor, n: int) -> Tensor:
    """Return the codes of a whole weight that is not empty, without gradient."""
    squashed = torch.tanh(weight)
    return _codes(squashed, _largest(squashed, False), n)


def _largest(squashed: Tensor, per_channel: bool) -> Tensor:
    """Return what tanh(w) is divided by: its largest absolute value, 0-dim or [C, 1, …], and 1 where that is subnormal.

    The reciprocal of a subnormal number, which the gradient needs, would be infinite. All zeros stay zeros so.
    """
    axes = tuple(range(1, squashed.dim())) if per_channel else ()
    # Two reductions, because the absolute values would be one more pass over memory, and to it.
    largest = torch.maximum(squashed.amax(axes, keepdim=per_channel), -squashed.amin(axes, keepdim=per_channel))
    return torch.where(largest < torch.finfo(squashed.dtype).tiny, 1, largest)


def _is_large(squashed: Tensor) -> bool:
    return squashed.is_cpu and not torch.compiler.is_compiling() and squashed.numel() > _RUN


def _runs(squashed: Tensor) -> Iterator[slice]:
    """Yield runs of output channels, which lie together in memory."""
    size = max(1, _RUN * len(squashed) // squashed.numel())
    for start in range(0, len(squashed), size):
        yield slice(start, start + size)


def _codes(squashed: Tensor, divisor: Tensor, n: int) -> Tensor:
    if not _is_large(squashed):
        return _rounded(squashed, divisor, n, None)
    codes = torch.empty_like(squashed)
    for run in _runs(squashed):
        _rounded(squashed[run], divisor if divisor.dim() == 0 else divisor[run], n, codes[run])
    return codes


def _rounded(squashed: Tensor, divisor: Tensor, n: int, out: Tensor | None) -> Tensor:
    v = torch.div(squashed, divisor, out=out)
    return v.mul_(0.5).add_(0.5).mul_(n).round_().mul_(2).sub_(n)


def _gradient(g: Tensor, squashed: Tensor, divisor: Tensor) -> Tensor:
    axes, keep = (tuple(range(1, squashed.dim())), True) if divisor.dim() > 0 else ((), False)
    of_squashed = g / divisor
    of_divisor = (of_squashed * squashed).sum(axes, keepdim=keep) / -divisor
    # None is equal to a divisor that is not the maximum.
    is_largest = squashed.abs() == divisor
    share = of_divisor / is_largest.sum(axes, keepdim=keep).clamp(min=1)
    of_squashed += is_largest * squashed.sign() * share
    of_weight: Tensor = torch.ops.aten.tanh_backward(of_squashed, squashed)
    return of_weight


def _gradient_in_runs(g: Tensor, squashed: Tensor, divisor: Tensor) -> Tensor:
    """Return `_gradient` of a large weight with one divisor."""
    found, of_divisor = torch.empty_like(squashed), torch.zeros_like(divisor)
    largest: list[tuple[Tensor, Tensor]] = []
    for run in _runs(squashed):
        t = squashed[run]
        of_squashed = torch.div(g[run], divisor, out=found[run])
        of_divisor += (of_squashed * t).sum()
        is_largest = t.abs() == divisor
        if bool(is_largest.any()):
            largest.append((of_squashed, is_largest * t.sign()))
    count = sum(int(signs.count_nonzero()) for _, signs in largest)
    for of_squashed, signs in largest:
        of_squashed += signs * (of_divisor / -divisor / count)
    for run in _runs(squashed):
        torch.ops.aten.tanh_backward.grad_input(found[run], squashed[run], grad_input=found[run])
    return found
