"""The product of a low-bit layer by bitorch_runtime's kernels: on integers forward, and backward from codes.

The numbers are `products`', bit for bit, but for the gradients of weight and bias, which are sums of floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..operators.integer_product import BackwardCall, Call, integer_product, integer_product_backward, is_channels_last
from ..quantizations.gradients import GradientQuantization
from .integer_kernels import GradientForm, InputForm
from .products import ConvolutionProduct, LinearProduct, Product

if TYPE_CHECKING:
    from .low_bit import IntegerOperands


class IntegerForm(NamedTuple):
    """What a product is besides its tensors.

    Attributes:
        input: how x becomes codes.
        convolution: of one or two axes, without dilation; None of a linear layer.
        max_weight_code: the largest absolute code of the weight.
    """

    input: InputForm
    convolution: ConvolutionProduct | None
    max_weight_code: int

    @property
    def product(self) -> Product:
        return LinearProduct() if self.convolution is None else self.convolution

    @property
    def is_signal(self) -> bool:
        """Whether tensors have one axis; to the kernels they are images of one row."""
        return self.convolution is not None and self.convolution.dimensions == 1

    def geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Return stride, padding and groups, as the operators have them."""
        if self.convolution is None:
            return (), (), 1
        stride, padding, _, groups = self.convolution
        return ((1, *stride), (0, *padding), groups) if self.is_signal else (stride, padding, groups)

    def images(self, tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(2) if self.is_signal else tensor

    def signals(self, tensor: Tensor) -> Tensor:
        """Undo `images`."""
        return tensor.squeeze(2) if self.is_signal else tensor

    def compute(
        self,
        x: Tensor,
        c: Tensor,
        bias: Tensor | None,
        input_scale: Tensor,
        weight_scale: Tensor,
        *,
        save: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, and what the backward operator needs of x and of the weight."""
        tensors = self.images(x), self.images(c), bias, input_scale, weight_scale
        bits, low, clips = self.input
        call = Call(*tensors, self.max_weight_code, bits, low, *self.geometry(), clips, save)
        y, saved, codes = integer_product(*call)
        return self.signals(y), saved, codes

    def sums(self, q: Tensor, c: Tensor, input_scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
        """Return y of codes, see `products.Sums`."""
        return self.compute(q, c, bias, input_scale, weight_scale, save=False)[0]


class _IntegerProduct(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        c: Tensor,
        bias: Tensor | None,
        input_scale: Tensor,
        weight_scale: Tensor,
        form: IntegerForm,
        gradient: GradientForm,
        quantizer: GradientQuantization,
    ) -> Tensor:
        save = any(ctx.needs_input_grad)
        y, saved, codes = form.compute(x, c, bias, input_scale, weight_scale, save=save)
        if save:
            ctx.save_for_backward(saved, codes, input_scale, weight_scale)
        ctx.is_channels_last = x.dim() == 4 and is_channels_last(x)
        ctx.is_weight_channels_last = c.dim() == 4 and is_channels_last(c)
        ctx.x_shape, ctx.form, ctx.gradient, ctx.quantizer = x.shape, form, gradient, quantizer
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        bits = ctx.quantizer.draw_bits(gradient.device)
        needs = list(ctx.needs_input_grad[:3])
        of_x = None
        if needs[0] and ctx.saved_tensors[3].dim() > 0:
            of_x, needs[0] = _of_x_in_floats(ctx, gradient, bits), False
        found = _on_integers(ctx, gradient, bits, needs)
        return (found[0] if of_x is None else of_x, *found[1:], *[None] * 5)


def _on_integers(ctx: Any, gradient: Tensor, bits: Tensor | None, needs: list[bool]) -> list[Tensor | None]:
    """Return the gradients of x, weight and bias that are needed."""
    form: IntegerForm = ctx.form
    x_shape = list(ctx.x_shape)
    if form.is_signal:
        x_shape.insert(2, 1)
    saved, codes, input_scale, weight_scale = ctx.saved_tensors
    stride, padding, groups = form.geometry()
    call = BackwardCall(
        form.images(gradient),
        saved,
        codes,
        input_scale,
        weight_scale,
        bits,
        x_shape,
        ctx.is_channels_last,
        form.input.bits,
        form.input.low,
        ctx.gradient.bits,
        ctx.gradient.grid,
        stride,
        padding,
        groups,
        form.input.clips,
        needs,
    )
    of_x, of_weight, of_bias = integer_product_backward(*call)
    return [
        form.signals(of_x) if needs[0] else None,
        form.signals(of_weight) if needs[1] else None,
        of_bias if needs[2] else None,
    ]


def _of_x_in_floats(ctx: Any, gradient: Tensor, bits: Tensor | None) -> Tensor:
    """Return the gradient of x where each output channel has a scale, which is a factor in its sums."""
    _, codes, _, weight_scale = ctx.saved_tensors
    product: Product = ctx.form.product
    coded = ctx.quantizer.coded_by(gradient, gradient.dim() - 1 - product.dimensions, bits)
    c = ctx.form.signals(codes.movedim(-1, 1)) if codes.dim() == 4 else codes
    c = c if ctx.is_weight_channels_last else c.contiguous()  # PyTorch's order of sums depends on it
    x = coded.codes.new_empty(1).expand(ctx.x_shape)  # its shape alone matters
    of_x, _ = product.gradients(coded.codes, x, c.to(coded.codes.dtype) * weight_scale, (True, False))
    assert of_x is not None  # it is needed
    return of_x.mul_(coded.step * coded.multiple)


def integer_linear(operands: IntegerOperands, bias: Tensor | None, quantizer: GradientQuantization) -> Tensor:
    """Return `products.scaled_linear` of operands whose gradient has codes, which the quantizer makes.

    Args:
        operands: x float32 [N, …, C], c [O, C].
        bias: [O], or None.
    """
    return _applied(operands, bias, form_of(operands, None), quantizer)


def integer_convolution(
    operands: IntegerOperands, convolution: ConvolutionProduct, bias: Tensor | None, quantizer: GradientQuantization
) -> Tensor:
    """Return `products.scaled_convolution` of operands whose gradient has codes, which the quantizer makes.

    Args:
        operands: x float32 [N, C, …], c [O, C, …], of one or two axes.
        convolution: without dilation.
        bias: [O], or None.
    """
    return _applied(operands, bias, form_of(operands, convolution), quantizer)


def form_of(operands: IntegerOperands, convolution: ConvolutionProduct | None) -> IntegerForm:
    """Return what the product is besides its tensors; its `sums` are `products.Sums`."""
    return IntegerForm(operands.form, convolution, operands.max_codes[1])


def _applied(
    operands: IntegerOperands, bias: Tensor | None, form: IntegerForm, quantizer: GradientQuantization
) -> Tensor:
    x, c, input_scale, weight_scale = operands[:4]
    y: Tensor = _IntegerProduct.apply(x, c, bias, input_scale, weight_scale, form, operands.gradient, quantizer)
    return y
