"""PyTorch operators of training on integers: `bitorch::integer_product` and `bitorch::integer_product_backward`.

They compute what a low-bit layer's product does, forward from activations and weight codes, and backward from the
few-bit codes of the gradient, by bitorch_runtime's kernels, in place of floats that hold the same integers. The numbers
are those of `bitorch.layers.products`, bit for bit, but for the gradients of weight and bias, which sum floats over the
samples: here in their order. `bitorch_runtime.training` has the formulas.

Images whose channels are last in memory go to the kernels as they lie, and the results come so; others are copied, and
results have the layout that PyTorch's convolutions give them: channels last where those of x or of the weight are.
What these operators cannot do is known to `bitorch.layers.integer_kernels`; here only a NaN is taken care of, which
integers cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .registration import register
from .training_threads import share_threads

if TYPE_CHECKING:
    from types import ModuleType

_LIBRARY = torch.library.Library("bitorch", "FRAGMENT")
_LIBRARY.define(
    "integer_product(Tensor x, Tensor c, Tensor? bias, Tensor input_scale, Tensor weight_scale, int max_weight_code, "
    "int bits, int? low, int[] stride, int[] padding, int groups, bool clips, bool save) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "integer_product_backward(Tensor gradient, Tensor saved, Tensor codes, Tensor input_scale, Tensor weight_scale, "
    "Tensor? key, SymInt[] x_shape, bool channels_last, int bits, int? low, int gradient_bits, str grid, int[] stride, "
    "int[] padding, int groups, bool clips, bool[] needs) -> (Tensor, Tensor, Tensor)"
)
integer_product = torch.ops.bitorch.integer_product.default
integer_product_backward = torch.ops.bitorch.integer_product_backward.default

#: The largest weight code that a byte holds; larger ones are odd, and kept in 16 bits.
_BYTE = 127


class Call(NamedTuple):
    """The arguments of `integer_product`, in its order. It returns y, what backward needs of x, and the weight's codes.

    Attributes:
        x: float32 [N, C, H, W], or [N, …, C] of a linear layer. Quantized where `low` is None: round(clip(x, 0, 1)·n),
            n = 2^bits − 1; else integers low … low + n.
        c: float32 [O, C / groups, KH, KW] or [O, C]: the weight's codes.
        bias: [O].
        input_scale: float32, 0-dim: the value of one code of x.
        weight_scale: float32, 0-dim or of O numbers: the value of one code of the weight.
        max_weight_code: the largest absolute code of the weight.
        bits: 1 to 8.
        low: the least code of x, −255 to 0; or None.
        stride, padding: (vertical, horizontal), or empty of a linear layer; padding contributes 0.
        groups: of channels, as PyTorch has them; 1 of a linear layer.
        clips: whether the gradient of x is 0 where x is not within 0 … 1; False where `low` is given.
        save: whether there will be a backward.
    """

    x: Tensor
    c: Tensor
    bias: Tensor | None
    input_scale: Tensor
    weight_scale: Tensor
    max_weight_code: int
    bits: int
    low: int | None
    stride: Sequence[int]
    padding: Sequence[int]
    groups: int
    clips: bool
    save: bool

    def results(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is computed, empty, in the order of memory."""
        shape, weight = _in_memory(self.x.shape, self.c), _in_memory(self.c.shape, self.c)
        size = _training().saved_bytes(shape, weight, **self.settings()) if self.save else 0
        kind = torch.int8 if self.max_weight_code <= _BYTE else torch.int16
        return (
            self.x.new_empty(self._output(shape)),
            self.x.new_empty(size, dtype=torch.uint8),
            self.c.new_empty(weight, dtype=kind),
        )

    def settings(self) -> dict[str, Any]:
        return {"clips": self.clips, **_geometry(self.stride, self.padding, self.groups)}

    def _output(self, shape: Sequence[int]) -> list[int]:
        if not self.stride:
            return [*shape[:-1], self.c.shape[0]]
        extents = zip(shape[1:3], self.c.shape[2:], self.stride, self.padding, strict=True)
        return [shape[0], *((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in extents), len(self.c)]

    def is_channels_last(self) -> bool:
        return is_channels_last(self.x) or is_channels_last(self.c)

    def in_floats(self) -> Tensor:
        """Return y where x or c holds a NaN; elsewhere the numbers are the same."""
        x = self.x if self.low is not None else self.x.clamp(0, 1).mul_(2**self.bits - 1).round_()
        outputs = [-1] if not self.stride else [-1, 1, 1]
        scale = (self.input_scale * self.weight_scale).reshape([] if self.weight_scale.dim() == 0 else outputs)
        operands = x.double(), self.c.double()  # which holds the sums, whatever their order
        sums = (
            F.linear(*operands)
            if not self.stride
            else F.conv2d(*operands, None, self.stride, self.padding, groups=self.groups)
        )
        y = sums.float().mul_(scale)
        return y if self.bias is None else y.add_(self.bias.reshape(outputs))


class BackwardCall(NamedTuple):
    """The arguments of `integer_product_backward`, in its order; those that are not here are `Call`'s.

    It returns the gradients of x, of the weight's values and of the bias, empty where they are not wanted.

    Attributes:
        gradient: float32, of y's shape.
        saved, codes: what `integer_product` returned behind y.
        key: of the noise, int64 [1], or None for none: see `bitorch.quantizations.noise`.
        x_shape: of x.
        channels_last: the layout of the gradient of x.
        gradient_bits: 1 to 8.
        grid: "odd", GradientDoReFa's, or "signed", GradientSigned's.
        needs: which gradients are wanted; that of x only where weight_scale is one number.
    """

    gradient: Tensor
    saved: Tensor
    codes: Tensor
    input_scale: Tensor
    weight_scale: Tensor
    key: Tensor | None
    x_shape: Sequence[int]
    channels_last: bool
    bits: int
    low: int | None
    gradient_bits: int
    grid: str
    stride: Sequence[int]
    padding: Sequence[int]
    groups: int
    clips: bool
    needs: Sequence[bool]

    def results(self) -> list[Tensor]:
        """Return what is computed, empty, in the order of memory."""
        shapes = [_in_memory(self.x_shape, self.codes), self.codes.shape, self.codes.shape[:1]]
        return [self.gradient.new_empty(shape if need else 0) for shape, need in zip(shapes, self.needs, strict=True)]


def _training() -> ModuleType:
    from bitorch_runtime import training

    return training


def _in_memory(shape: Sequence[int], weight: Tensor) -> list[int]:
    """Return the shape of a tensor in the order of memory, which linear layers have anyway."""
    return [shape[0], *shape[2:], shape[1]] if weight.dim() == 4 else [*shape]


def _to_memory(tensor: Tensor, weight: Tensor) -> Tensor:
    return (tensor.permute(0, 2, 3, 1) if weight.dim() == 4 else tensor).contiguous()


def laid_out(image: Tensor, is_channels_last: bool) -> Tensor:
    """Return an image [N, H, W, C] as [N, C, H, W] in the layout that is asked for."""
    of_channels = image.permute(0, 3, 1, 2)
    if not is_channels_last:
        # Of one pixel both are the same memory, but PyTorch goes by the strides when it chooses how to go on.
        of_channels = of_channels.flatten().view(of_channels.shape)
    return of_channels.detach()  # no view to autograd, so that operations in place can follow


def is_channels_last(tensor: Tensor) -> bool:
    """Say whether the channels of an image, or of a weight [O, C, H, W], are last in memory, and not both."""
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _geometry(stride: Sequence[int], padding: Sequence[int], groups: int) -> dict[str, Any]:
    return {"stride": tuple(stride), "padding": tuple(padding), "groups": groups} if stride else {}


def _compute(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    call = Call(*arguments)
    y, saved, codes = call.results()
    codes.copy_(call.c.permute(0, 2, 3, 1) if call.stride else call.c)
    training = _training()
    share_threads()
    result = (training.conv2d if call.stride else training.linear)(
        _to_memory(call.x, call.c).detach().numpy(),
        codes.numpy(),
        float(call.input_scale),
        numbers(call.weight_scale),
        bits=call.bits,
        low=call.low,
        bias=None if call.bias is None else copied(call.bias),
        save=call.save,
        threads=torch.get_num_threads(),
        out=(y.numpy(), saved.numpy() if call.save else None),
        **call.settings(),
    )
    y = laid_out(y, call.is_channels_last()) if call.stride else y
    if result.holds_nan or bool(call.c.sum().isnan()):
        y.copy_(call.in_floats())
    return y, saved, codes


def _compute_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    call = Call(*arguments)
    y, saved, codes = call.results()
    return laid_out(y, call.is_channels_last()) if call.stride else y, saved, codes


def _compute_backward(*arguments: Any) -> tuple[Tensor, ...]:
    call = BackwardCall(*arguments)
    results = call.results()
    training = _training()
    share_threads()
    (training.conv2d_backward if call.stride else training.linear_backward)(
        _to_memory(call.gradient, call.codes).numpy(),
        call.saved.numpy(),
        call.codes.numpy(),
        float(call.input_scale),
        numbers(call.weight_scale),
        x_shape=_in_memory(call.x_shape, call.codes),
        bits=call.bits,
        low=call.low,
        gradient_bits=call.gradient_bits,
        grid=call.grid,
        key=None if call.key is None else tuple(call.key.view(torch.int32).tolist()),
        clips=call.clips,
        needs=tuple(call.needs),
        threads=torch.get_num_threads(),
        out=tuple(result.numpy() if need else None for result, need in zip(results, call.needs, strict=True)),
        **_geometry(call.stride, call.padding, call.groups),
    )
    return _gradients(call, results)


def _compute_backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    call = BackwardCall(*arguments)
    return _gradients(call, call.results())


def _gradients(call: BackwardCall, results: list[Tensor]) -> tuple[Tensor, ...]:
    of_x, of_weight, of_bias = results
    if not call.stride:
        return of_x, of_weight, of_bias
    return (
        laid_out(of_x, call.channels_last) if call.needs[0] else of_x,
        laid_out(of_weight, True) if call.needs[1] else of_weight,
        of_bias,
    )


def numbers(scale: Tensor) -> Any:
    """Return one number as such, and more as an array."""
    return float(scale) if scale.dim() == 0 else copied(scale.reshape(-1))


def copied(parameter: Tensor) -> Any:
    """Return a copy of a small parameter as an array of float32.

    PyTorch fixes the size of what NumPy has seen, and where weights are shared out to processes (FSDP) it takes their
    memory back after a call.
    """
    return parameter.detach().float().clone(memory_format=torch.contiguous_format).numpy()


register(_LIBRARY, "integer_product", _compute, _compute_fake)
register(_LIBRARY, "integer_product_backward", _compute_backward, _compute_backward_fake)
