"""Convolution and linear product of integer codes, exact in floating point, times the scales.

D = Σ c·q is an integer. As long as every partial sum is below 2^24 float32 holds each of them exactly, so D depends on
neither the order of summation nor the library. Where K inputs per output could sum to more, the weight codes are split
into digits of a smaller base, c = Σ_i base^i·d_i, each digit gets a pass of its own, and the sum of these rounds once.
The result is then D rounded once to float32: the same as converting the deployed network's int32 accumulator.

The backward functions take codes back to values: see the gradient convention in `bitorch.quantizations.base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

#: float32 holds all integers up to this.
FLOAT32_EXACT = 2**24
#: By the number of spatial dimensions, less one.
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
#: The deployed network accumulates in int32.
INT32_LIMIT = 2**31


def digit_base(inputs: int, max_weight_code: int, max_input_code: int) -> int:
    """Return the base that weight codes must be split in for exact sums; 0 where no split is needed.

    Args:
        inputs: K, the number of inputs per output.

    Raises:
        ValueError: K is too large for the int32 accumulators of deployment, or for any base.
    """
    largest = inputs * max_input_code * max_weight_code
    if largest < FLOAT32_EXACT:
        return 0
    for base in (16, 8, 4, 2):
        if largest < INT32_LIMIT and inputs * max_input_code * _largest_digit(max_weight_code, base) < FLOAT32_EXACT:
            return base
    widest = min((INT32_LIMIT - 1) // max_weight_code, (FLOAT32_EXACT - 1)) // max_input_code
    raise ValueError(
        f"a layer with {inputs} inputs per output is too wide for exact sums: weight codes up to {max_weight_code} "
        f"times activation codes up to {max_input_code} allow at most {widest} inputs. Use fewer bits, or more groups, "
        "or exact=False, which gives up exactness"
    )


def _largest_digit(largest: int, base: int) -> int:
    """Largest absolute digit when integers up to `largest` are split as in `_digits`."""
    return min(largest, base // 2)


def _digits(codes: Tensor, max_code: int, base: int) -> list[Tensor]:
    """Split integers of magnitude up to max_code into digits d_i with |d_i| ≤ base/2: codes = Σ_i base^i·d_i."""
    digits = []
    while max_code > base // 2:
        higher = (codes / base).round()  # exact: base is a power of two
        digits.append(codes - base * higher)
        codes, max_code = higher, (max_code + base // 2) // base
    return [*digits, codes]


def _exact(product: Callable[[Tensor], Tensor], weight: Tensor, max_weight_code: int, base: int) -> Tensor:
    """Return the exact product of integer weight codes, in one pass, or in one pass per digit."""
    if base == 0:
        return product(weight)
    passes = [product(digit) for digit in _digits(weight, max_weight_code, base)]
    if len(passes) == 2:
        return passes[0].add_(passes[1], alpha=base)  # both terms are exact, so this rounds once
    total = torch.zeros_like(passes[0], dtype=torch.float64)
    for power, one in enumerate(passes):
        total.add_(one.double(), alpha=base**power)
    return total.to(weight.dtype)


def _narrow(codes: Tensor, max_code: int) -> Tensor:
    """Codes in the smallest integer type, to be kept for backward: a quarter of float32's memory up to 7 bits."""
    return codes.to(torch.int8 if max_code <= 127 else torch.int16)


def _full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off inside, on devices that have it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _without_winograd() -> AbstractContextManager[None]:
    """Switch NNPACK off inside: without oneDNN PyTorch may take its Winograd convolution, which is not exact."""
    if torch.compiler.is_compiling():  # cannot trace the switch
        return nullcontext()
    switch: AbstractContextManager[None] = torch.backends.nnpack.flags(enabled=False)
    return switch


def over_outputs(scale: Tensor, dimensions: int) -> Tensor:
    """Return a scale as it multiplies sums [B, C_out, *dimensions]: as it is, or [C_out, 1, …] per channel."""
    return scale if scale.dim() == 0 else scale.reshape(-1, *[1] * dimensions)


class _ScaledLinear(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, c: Tensor, input_scale: Tensor, weight_scale: Tensor, max_codes: tuple[int, int], base: int
    ) -> Tensor:
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(_narrow(q, max_codes[0]), _narrow(c, max_codes[1]), input_scale, weight_scale)
        scale = over_outputs(input_scale * weight_scale, 0)
        return _exact(lambda weight: F.linear(q, weight), c, max_codes[1], base).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, c, input_scale, weight_scale = ctx.saved_tensors
        input_gradient = weight_gradient = None
        with _full_precision(gradient):
            if ctx.needs_input_grad[0]:
                input_gradient = gradient @ c.to(gradient.dtype).mul_(weight_scale)
            if ctx.needs_input_grad[1]:
                rows = gradient.flatten(0, -2) if gradient.dim() > 1 else gradient.unsqueeze(0)
                inputs = q.flatten(0, -2) if q.dim() > 1 else q.unsqueeze(0)
                weight_gradient = (rows.t() @ inputs.to(gradient.dtype)).mul_(input_scale)
        return input_gradient, weight_gradient, None, None, None, None


class _ScaledConvolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        c: Tensor,
        input_scale: Tensor,
        weight_scale: Tensor,
        max_codes: tuple[int, int],
        base: int,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(_narrow(q, max_codes[0]), _narrow(c, max_codes[1]), input_scale, weight_scale)
        ctx.geometry = stride, padding, dilation, groups
        convolve = CONVOLUTIONS[len(stride) - 1]
        with _without_winograd():
            d = _exact(lambda w: convolve(q, w, None, stride, padding, dilation, groups), c, max_codes[1], base)
        return d.mul_(over_outputs(input_scale * weight_scale, len(stride)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, c, input_scale, weight_scale = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        # torch.nn.grad's functions call this same operator, but lose the channels-last layout of the input.
        input_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            gradient,
            q.to(gradient.dtype),
            c.to(gradient.dtype).mul_(weight_scale),
            None,
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            groups,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False],
        )
        if weight_gradient is not None:
            weight_gradient.mul_(input_scale)
        return (input_gradient, weight_gradient, *[None] * 8)


def scaled_linear(
    q: Tensor, c: Tensor, input_scale: Tensor, weight_scale: Tensor, max_codes: tuple[int, int]
) -> Tensor:
    """Return (q @ c.T)·(input_scale·weight_scale), exact on the integers q [..., in] and c [out, in].

    Args:
        input_scale: 0-dim.
        weight_scale: 0-dim, or [out, 1].
        max_codes: largest absolute code of q and of c.
    """
    base = digit_base(c.shape[1], max_codes[1], max_codes[0])
    with _full_precision(q):
        result: Tensor = _ScaledLinear.apply(q, c, input_scale, weight_scale, max_codes, base)
    return result


def scaled_convolution(
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Return conv(q, c)·(input_scale·weight_scale), exact on the integers q [B, C_in, …] and c [C_out, C_in/groups, …].

    Args:
        input_scale: 0-dim.
        weight_scale: 0-dim, or [C_out, 1, …].
        max_codes: largest absolute code of q and of c.
    """
    base = digit_base(math.prod(c.shape[1:]), max_codes[1], max_codes[0])
    with _full_precision(q):
        result: Tensor = _ScaledConvolution.apply(
            q, c, input_scale, weight_scale, max_codes, base, stride, padding, dilation, groups
        )
    return result
