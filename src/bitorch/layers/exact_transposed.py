"""Transposed convolution of integer codes, exact in floating point, times the scales; see `bitorch.layers.products`.

Quantizers see a weight with the output channel first, so the codes come as [C_out, C_in/groups, …]. PyTorch keeps the
weight of a transposed convolution as [C_in, C_out/groups, …]; inside a group the first two axes trade places.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .exact import _without_winograd
from .products import Rounding, scaled_product

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


class TransposedProduct(NamedTuple):
    """A transposed convolution of x [B, C_in, …] with weight [C_out, C_in/groups, …]."""

    geometry: Geometry

    @property
    def dimensions(self) -> int:
        return len(self.geometry.stride)

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        with _without_winograd():
            swapped = swap_channels(weight, self.geometry.groups)
            return TRANSPOSED_CONVOLUTIONS[self.dimensions - 1](x, swapped, None, *self.geometry)

    def gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        stride, padding, output_padding, groups, dilation = self.geometry
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient,
            x,
            swap_channels(weight, groups),
            None,
            stride,
            padding,
            dilation,
            True,
            output_padding,
            groups,
            [*needs, False],
        )
        return of_x, None if of_weight is None else swap_channels(of_weight, groups)

    def terms(self, weight: Tensor) -> int:
        return weight.shape[0] // self.geometry.groups * math.prod(weight.shape[2:])


def scaled_transposed_convolution(
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    inputs: int,
    geometry: Geometry,
    bias: Tensor | None = None,
    rounding: Rounding | None = None,
) -> Tensor:
    """Return conv_transpose(q, c)·(input_scale·weight_scale) + bias, exact on the integers q and c.

    Args:
        q: [B, C_in, …].
        c: [C_out, C_in/groups, …].
        weight_scale … rounding: see `scaled_product`.
    """
    product = TransposedProduct(geometry)
    return scaled_product(product, q, c, input_scale, weight_scale, max_codes, inputs, bias, rounding)
