"""Transposed convolution of integer codes, exact in floating point, times the scales; see `bitorch.layers.exact`.

Quantizers see a weight with the output channel first, so the codes come as [C_out, C_in/groups, …]. PyTorch keeps the
weight of a transposed convolution as [C_in, C_out/groups, …]; inside a group the first two axes trade places.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .exact import _exact, _full_precision, _narrow, _without_winograd, digit_base, over_outputs

#: By the number of spatial dimensions, less one.
TRANSPOSED_CONVOLUTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Geometry(NamedTuple):
    """Where the products of a transposed convolution go, in the order of F.conv_transpose2d's arguments."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    dilation: tuple[int, ...]


def swap_channels(weight: Tensor, groups: int) -> Tensor:
    """Return [C_in, C_out/groups, …] as [C_out, C_in/groups, …], and the other way round: it is its own inverse."""
    grouped: Tensor = weight.unflatten(0, (groups, weight.shape[0] // groups))
    return grouped.transpose(1, 2).flatten(0, 1)


def taps_per_output(kernel: int, stride: int, dilation: int) -> int:
    """Return how many of the kernel's taps along one axis meet in one output, at most.

    Tap k of input i goes to output i·stride + k·dilation − padding. Two taps can share an output only if stride
    divides their distance in outputs: every (stride / gcd(stride, dilation))-th tap does.
    """
    apart = stride // math.gcd(stride, dilation)
    return (kernel + apart - 1) // apart


def products_per_output(
    channels: int, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> int:
    """Return how many products an output sums at most, of so many channels of the input."""
    axes = zip(kernel, stride, dilation, strict=True)
    return channels * math.prod([taps_per_output(*axis) for axis in axes])


class _ScaledTransposedConvolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        c: Tensor,
        input_scale: Tensor,
        weight_scale: Tensor,
        max_codes: tuple[int, int],
        base: int,
        geometry: Geometry,
    ) -> Tensor:
        ctx.save_for_backward(_narrow(q, max_codes[0]), _narrow(c, max_codes[1]), input_scale, weight_scale)
        ctx.geometry = geometry
        convolve = TRANSPOSED_CONVOLUTIONS[len(geometry.stride) - 1]
        weight = swap_channels(c, geometry.groups)
        with _without_winograd():
            d = _exact(lambda w: convolve(q, w, None, *geometry), weight, max_codes[1], base)
        return d.mul_(over_outputs(input_scale * weight_scale, len(geometry.stride)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, c, input_scale, weight_scale = ctx.saved_tensors
        stride, padding, output_padding, groups, dilation = ctx.geometry
        input_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            gradient,
            q.to(gradient.dtype),
            swap_channels(c.to(gradient.dtype).mul_(weight_scale), groups),
            None,
            stride,
            padding,
            dilation,
            True,
            output_padding,
            groups,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False],
        )
        if weight_gradient is not None:
            weight_gradient = swap_channels(weight_gradient.mul_(input_scale), groups)
        return (input_gradient, weight_gradient, *[None] * 5)


def scaled_transposed_convolution(
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    inputs: int,
    geometry: Geometry,
) -> Tensor:
    """Return conv_transpose(q, c)·(input_scale·weight_scale), exact on the integers q and c.

    Args:
        q: [B, C_in, …].
        c: [C_out, C_in/groups, …].
        weight_scale: 0-dim, or [C_out, 1, …] with as many axes as c.
        max_codes: largest absolute code of q and of c.
        inputs: how many products an output sums at most.
    """
    base = digit_base(inputs, max_codes[1], max_codes[0])
    with _full_precision(q):
        result: Tensor = _ScaledTransposedConvolution.apply(q, c, input_scale, weight_scale, max_codes, base, geometry)
    return result
