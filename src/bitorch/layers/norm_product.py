"""A convolution that gets a BatchNorm's input, normalizes, quantizes and multiplies: one node of the graph.

Forward it gives the numbers that the modules by themselves give, but for the rounding of normalized numbers, which may
move one that is within it of a threshold to the next code. So are gradients, whose sums are added in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..operators.integer_product import BackwardCall, integer_product_backward, is_channels_last
from ..operators.norm_product import NormCall, norm_backward_, norm_pool_backward, norm_product, pooled
from ..quantizations.gradients import GradientQuantization
from .input_quantizer import quantizer_of
from .integer_kernels import GradientForm, Layer, TrainingKernels, Ways, call_ways, gradient_form, layer_ways

if TYPE_CHECKING:
    from .deferred_norm import Normalization
    from .low_bit import ReadWeight


class Convolution(Layer, Protocol):
    """What is asked of a QConv2d here."""

    @property
    def training(self) -> bool: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def stride(self) -> tuple[int, ...]: ...
    @property
    def padding_mode(self) -> str: ...
    @property
    def pad_value(self) -> float: ...
    @property
    def bias(self) -> Tensor | None: ...
    @property
    def gradient_cancellation_threshold(self) -> float: ...
    def training_kernels(self) -> TrainingKernels: ...
    def _borders(self) -> list[tuple[int, int]]: ...
    def _read_codes(self) -> ReadWeight: ...
    def _gradient_quantizer(self) -> GradientQuantization: ...


class _Form(NamedTuple):
    """What the node is besides its tensors."""

    positive: bool
    pool: bool
    bits: int
    max_weight_code: int
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    channels_last: bool
    gradient: GradientForm
    quantizer: GradientQuantization


class _Affine(NamedTuple):
    """y·scale + shift normalizes; inverse is 1/√(variance + eps), of doubles."""

    scale: Tensor
    shift: Tensor
    inverse: Tensor


class _NormProduct(Function):
    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        c: Tensor,
        bias: Tensor | None,
        mean: Tensor,
        affine: _Affine,
        input_scale: Tensor,
        weight_scale: Tensor,
        form: _Form,
    ) -> Tensor:
        save = any(ctx.needs_input_grad)
        call = NormCall(
            y,
            affine.scale,
            affine.shift,
            form.positive,
            form.pool,
            c,
            bias,
            input_scale,
            weight_scale,
            form.max_weight_code,
            form.bits,
            form.stride,
            form.padding,
            save,
            form.channels_last,
        )
        result: Tensor
        result, saved, codes, winners = norm_product(*call)
        if save:
            ctx.save_for_backward(y, gamma, mean, affine.inverse, saved, codes, winners, input_scale, weight_scale)
        ctx.form = form
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, gamma, mean, inverse, saved, codes, winners, input_scale, weight_scale = ctx.saved_tensors
        form: _Form = ctx.form
        needs_norm = any(ctx.needs_input_grad[:3])
        call = BackwardCall(
            gradient,
            saved,
            codes,
            input_scale,
            weight_scale,
            form.quantizer.draw_bits(gradient.device),
            pooled(y.shape, form.pool),
            True,
            form.bits,
            None,
            form.gradient.bits,
            form.gradient.grid,
            form.stride,
            form.padding,
            1,
            True,
            [needs_norm, *ctx.needs_input_grad[3:5]],
        )
        of_x, of_c, of_bias = integer_product_backward(*call)
        of_norm: tuple[Tensor | None, ...] = (None, None, None)
        if needs_norm and form.pool:
            of_norm = norm_pool_backward(of_x, y, winners, mean, inverse, gamma)
        elif needs_norm:
            of_norm = of_x, *norm_backward_(of_x, y, mean, inverse, gamma)
        found = (*of_norm, of_c, of_bias)
        return (
            *(of if needed else None for of, needed in zip(found, ctx.needs_input_grad[:5], strict=True)),
            *[None] * 5,
        )


def static_norm_obstacle(layer: Convolution) -> str | None:
    """Return why a layer cannot take what a BatchNorm gets, or None: by what is known before a call."""
    kernels = layer.training_kernels()
    if kernels.forward == "float" or kernels.backward == "float":
        return f"it computes on floats: {kernels.why}"
    ways = layer_ways(layer)
    assert not isinstance(ways, str)  # it computes on integers
    return _input_obstacle(layer, ways)


def _input_obstacle(layer: Convolution, ways: Ways) -> str | None:
    if ways.form.low is not None or not ways.form.clips:
        return f'its input quantizer is {quantizer_of(layer.activation)}; InputDoReFa with variant="paper" would do'
    if layer.groups != 1:
        return f"it has {layer.groups} groups"
    if layer.gradient_cancellation_threshold != 0:
        return "its activation cancels gradients by a threshold"
    if layer.padding_mode != "zeros" or layer.pad_value != 0 or any(a != b for a, b in layer._borders()):
        return "its borders are not zeros, as many on both sides"
    return None


def normed_convolution(layer: Convolution, of: Normalization) -> Tensor | None:
    """Return the layer's output behind a BatchNorm; None where it has to be computed module by module."""
    x = of.y.new_empty(1).expand(pooled(of.y.shape, of.pool))  # its shape alone matters
    if layer.kernels == "float" or not layer.training or layer.in_channels != x.shape[1]:
        return None
    ways = call_ways(layer, x)
    if isinstance(ways, str) or _input_obstacle(layer, ways) is not None:
        return None
    gradient = gradient_form(layer, ways, x)
    if isinstance(gradient, str):
        return None
    c, weight_scale = layer._read_codes()
    affine = _affine(of)
    assert weight_scale is not None  # there are codes
    if weight_scale.dim() != 0 or not _is_finite(of, affine, c):
        return None
    padding = tuple(before for before, _ in layer._borders())
    form = _Form(
        of.positive,
        of.pool,
        ways.form.bits,
        ways.max_codes[1],
        tuple(layer.stride),
        padding,
        of.channels_last or is_channels_last(c),
        gradient,
        layer._gradient_quantizer(),
    )
    input_scale = quantizer_of(layer.activation).scale(x)
    result: Tensor = _NormProduct.apply(
        of.y, of.gamma, of.beta, c, layer.bias, of.mean, affine, input_scale, weight_scale, form
    )
    return result


@torch.no_grad()
def _affine(of: Normalization) -> _Affine:
    inverse = (of.variance + of.eps).sqrt().reciprocal()
    scale = (inverse if of.gamma is None else of.gamma * inverse).float()
    shift = -of.mean * scale if of.beta is None else of.beta - of.mean * scale
    return _Affine(scale, shift.float(), inverse)


@torch.no_grad()
def _is_finite(of: Normalization, affine: _Affine, c: Tensor) -> bool:
    """Say whether all numbers have codes: normalized ones are finite or infinite where these are finite."""
    numbers = (of.variance + affine.scale + affine.shift).sum() + c.sum()
    return bool(numbers.isfinite())
