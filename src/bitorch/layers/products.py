"""Linear product and convolution of integer codes times the scales, and gradients, on codes where these have some.

Codes of a gradient pass from its quantizer into both products of the backward pass. The gradient of the input is then
exact as the forward pass is: with codes i of the gradient, worth σ_s each in sample s, and c of the weight, worth s_w,

    dx = fl(fl(Σ i·c)·fl(σ_s·s_w))

The weight's, Σ_s σ_s·(Σ i·q)·s_x, sums floats, in the order of PyTorch's kernels. See `exact` for the sums, and
`bitorch.quantizations.base` for what a gradient of codes is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..quantizations.gradients import GradientCodes
from .exact import (
    FLOAT32_EXACT,
    _exact,
    _full_precision,
    _narrow,
    _without_winograd,
    base_of_sums,
    digit_base,
    over_outputs,
)

#: By the number of spatial dimensions, less one.
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
#: What makes codes of an output's gradient, whose channels are in the axis that it is told; None: it has none.
Rounding = Callable[[Tensor, int], GradientCodes | None]
#: What computes y of codes of input and weight, their scales and the bias.
Sums = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Product(Protocol):
    """A product that is linear in the input and in the weight, [C_out, …]."""

    @property
    def dimensions(self) -> int:
        """How many axes of the output are behind its channels."""

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the product [B, …]."""

    def gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of x and of the weight, those that are needed."""

    def terms(self, weight: Tensor) -> int:
        """Return how many products a number of x's gradient sums at most."""


class LinearProduct(NamedTuple):
    """x @ weight.T, of x [..., in] and weight [out, in]."""

    dimensions: int = 0

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        of_x = gradient @ weight if needs[0] else None
        if not needs[1]:
            return of_x, None
        rows = gradient.flatten(0, -2) if gradient.dim() > 1 else gradient.unsqueeze(0)
        inputs = x.flatten(0, -2) if x.dim() > 1 else x.unsqueeze(0)
        return of_x, rows.t() @ inputs

    def terms(self, weight: Tensor) -> int:
        return weight.shape[0]


class ConvolutionProduct(NamedTuple):
    """A convolution of x [B, C_in, …] with weight [C_out, C_in/groups, …], in the order of F.conv2d's arguments."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def dimensions(self) -> int:
        return len(self.stride)

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        with _without_winograd():
            return CONVOLUTIONS[len(self.stride) - 1](x, weight, None, *self)

    def gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        # torch.nn.grad's functions call this same operator, but lose the channels-last layout of the input.
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0] * len(self.stride),
            self.groups,
            [*needs, False],
        )
        return of_x, of_weight

    def terms(self, weight: Tensor) -> int:
        return weight.shape[0] // self.groups * math.prod(weight.shape[2:])


class _ScaledProduct(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        c: Tensor,
        bias: Tensor | None,
        input_scale: Tensor,
        weight_scale: Tensor,
        product: Product,
        max_codes: tuple[int, int],
        base: int,
        rounding: Rounding | None,
        sums: Sums | None,
    ) -> Tensor:
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(_narrow(q, max_codes[0]), _narrow(c, max_codes[1]), input_scale, weight_scale)
        ctx.product, ctx.max_weight_code, ctx.rounding = product, max_codes[1], rounding
        if sums is not None:
            return sums(q, c, input_scale, weight_scale, bias)
        dimensions = product.dimensions
        y = _exact(lambda weight: product.sums(q, weight), c, max_codes[1], base)
        if input_scale.dim() == 0:
            y.mul_(over_outputs(input_scale * weight_scale, dimensions))
        else:
            y.mul_(over_outputs(weight_scale, dimensions)).mul_(input_scale)
        return y if bias is None else y.add_(over_outputs(bias, dimensions))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, c, input_scale, weight_scale = ctx.saved_tensors
        product, needs = ctx.product, (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        with _full_precision(gradient):
            channels = gradient.dim() - 1 - product.dimensions
            coded = None if ctx.rounding is None else ctx.rounding(gradient, channels)
            if coded is None:
                of_bias = _sum_over_others(gradient, channels) if ctx.needs_input_grad[2] else None
                weight = c.to(gradient.dtype).mul_(weight_scale)
                x, outside = _scaled_rows(q.to(gradient.dtype), input_scale)
                of_x, of_weight = product.gradients(gradient, x, weight, needs)
                if of_weight is not None:
                    of_weight.mul_(outside)
            else:
                of_bias = _bias_gradient(coded, channels) if ctx.needs_input_grad[2] else None
                of_x, of_weight = _gradients_on_codes(
                    product, coded, q, c, input_scale, weight_scale, ctx.max_weight_code, needs
                )
        return (of_x, of_weight, of_bias, *[None] * 7)


def _gradients_on_codes(
    product: Product,
    coded: GradientCodes,
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_weight_code: int,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of input and weight for a gradient in codes.

    A scale for each output channel is a factor in the input's sums, which are sums of floats then. So they are where
    they could go beyond int32.
    """
    codes, step, multiple, largest = coded
    (x, outside), weight = _scaled_rows(q.to(codes.dtype), input_scale), c.to(codes.dtype)
    if needs[1]:
        x.mul_(step)
    is_scale_outside = weight_scale.dim() == 0
    if not is_scale_outside:
        weight.mul_(weight_scale)
    base = base_of_sums(product.terms(c), max_weight_code, largest) if is_scale_outside and needs[0] else None
    if base is None or base == 0:
        of_x, of_weight = product.gradients(codes, x, weight, needs)
    else:
        of_x = _exact(lambda digit: _of_x(product, codes, x, digit), weight, max_weight_code, base)
        of_weight = product.gradients(codes, x, weight, (False, True))[1] if needs[1] else None
    if of_x is not None:
        of_x.mul_((step * weight_scale if is_scale_outside else step) * multiple)  # in this order, also of subnormals
    if of_weight is not None:
        of_weight.mul_(outside * multiple)
    return of_x, of_weight


def _scaled_rows(q: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the weight's gradient sums, a new tensor that is changed, and the factor outside of its sums."""
    return (q, scale) if scale.dim() == 0 else (q.mul_(scale), scale.new_ones(()))


def _of_x(product: Product, codes: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    of_x, _ = product.gradients(codes, x, weight, (True, False))
    assert of_x is not None  # it is needed
    return of_x


def _bias_gradient(coded: GradientCodes, channels: int) -> Tensor:
    """Return Σ_s σ_s·(Σ codes), of exact sums for each sample, rounded once."""
    codes, step, multiple, largest = coded
    others = [axis for axis in range(1, codes.dim()) if axis != channels]
    if others:
        numbers = codes.numel() // (codes.shape[0] * codes.shape[channels])
        is_exact = numbers * largest < FLOAT32_EXACT
        codes = codes.sum(others, dtype=codes.dtype if is_exact else torch.float64).to(codes.dtype)
    return (codes * step.reshape(-1, 1)).sum(0) * multiple


def _sum_over_others(gradient: Tensor, channels: int) -> Tensor:
    others = [axis for axis in range(gradient.dim()) if axis != channels]
    return gradient.sum(others) if others else gradient


def scaled_product(
    product: Product,
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    inputs: int,
    bias: Tensor | None,
    rounding: Rounding | None,
    sums: Sums | None = None,
) -> Tensor:
    """Return the product of q and c times (input_scale·weight_scale), plus bias, exact on the integers.

    Args:
        input_scale: 0-dim; of a linear product also [..., 1], one for each row, which multiplies after weight_scale.
        weight_scale: 0-dim, or [C_out, 1, …] with as many axes as c.
        max_codes: largest absolute code of q and of c.
        inputs: how many products an output sums at most.
        bias: [C_out], or None.
        rounding: what makes codes of the output's gradient, in backward; None takes it as it comes.
        sums: what computes the result from q, c, the scales and the bias in the place of floats; the same numbers.
    """
    base = digit_base(inputs, max_codes[1], max_codes[0])
    return product_of_codes(product, q, c, input_scale, weight_scale, max_codes, base, bias, rounding, sums)


def product_of_codes(
    product: Product,
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    base: int,
    bias: Tensor | None,
    rounding: Rounding | None,
    sums: Sums | None,
) -> Tensor:
    """As `scaled_product`, for a base that is known.

    Args:
        weight_scale: with `sums` also of the shape of c.
        base: what the weight's codes are split in, see `digit_base`; `sums` has its own.
    """
    with _full_precision(q):
        result: Tensor = _ScaledProduct.apply(
            q, c, bias, input_scale, weight_scale, product, max_codes, base, rounding, sums
        )
    return result


def scaled_linear(
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    bias: Tensor | None = None,
    rounding: Rounding | None = None,
    sums: Sums | None = None,
) -> Tensor:
    """Return (q @ c.T)·(input_scale·weight_scale) + bias for q [..., in] and c [out, in]; see `scaled_product`."""
    return scaled_product(LinearProduct(), q, c, input_scale, weight_scale, max_codes, c.shape[1], bias, rounding, sums)


def scaled_convolution(
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    product: ConvolutionProduct,
    bias: Tensor | None = None,
    rounding: Rounding | None = None,
    sums: Sums | None = None,
) -> Tensor:
    """Return conv(q, c)·(input_scale·weight_scale) + bias of c [C_out, C_in/groups, …]; see `scaled_product`."""
    inputs = math.prod(c.shape[1:])
    return scaled_product(product, q, c, input_scale, weight_scale, max_codes, inputs, bias, rounding, sums)
