"""PyTorch operators of training on integers behind a BatchNorm: what it gives becomes codes in one pass over memory.

`bitorch::channel_moments` are a BatchNorm's statistics of a batch; `bitorch::norm_product` normalizes by them, pools,
quantizes and multiplies. `bitorch::norm_backward_` goes back from the gradient that `bitorch::integer_product_backward`
gives, and `bitorch::norm_pool_backward` does so behind a pooling. What is kept in between is the BatchNorm's input, and
codes. `bitorch_runtime.training_norm` has the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .integer_product import Call, copied, laid_out, numbers
from .registration import register
from .training_threads import share_threads

if TYPE_CHECKING:
    from types import ModuleType

_LIBRARY = torch.library.Library("bitorch", "FRAGMENT")
_LIBRARY.define("channel_moments(Tensor y) -> (Tensor, Tensor)")
_LIBRARY.define(
    "norm_product(Tensor y, Tensor norm_scale, Tensor norm_shift, bool positive, bool pool, Tensor c, Tensor? bias, "
    "Tensor input_scale, Tensor weight_scale, int max_weight_code, int bits, int[] stride, int[] padding, bool save, "
    "bool channels_last) -> (Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "norm_backward_(Tensor(a!) gradient, Tensor y, Tensor mean, Tensor inverse, Tensor? gamma) -> (Tensor, Tensor)"
)
_LIBRARY.define(
    "norm_pool_backward(Tensor gradient, Tensor y, Tensor winners, Tensor mean, Tensor inverse, Tensor? gamma) "
    "-> (Tensor, Tensor, Tensor)"
)
#: Mean and biased variance of each channel, float64 [C], of y float32 [N, C, H, W].
channel_moments = torch.ops.bitorch.channel_moments.default
norm_product = torch.ops.bitorch.norm_product.default
#: Puts the gradient of y in the place of the one that it comes from, of the same shape where no window stood between:
#: other memory would be one pass more. Returns the gradients of gamma and of beta.
norm_backward_ = torch.ops.bitorch.norm_backward_.default
#: The gradients of y, gamma and beta, where windows stood between.
norm_pool_backward = torch.ops.bitorch.norm_pool_backward.default


class NormCall(NamedTuple):
    """The arguments of `norm_product`, in its order; those from `c` on are `integer_product`'s.

    It returns the layer's output, what `integer_product_backward` needs of the quantizer's input, the weight's codes,
    and which of each window is the largest, empty where there are no windows.

    Attributes:
        y: float32 [N, C, H, W], what the BatchNorm gets.
        norm_scale, norm_shift: float32 [C]: y·scale + shift is what it gives.
        positive: whether a ReLU stands before the quantizer.
        pool: whether a max-pooling over windows of 2×2, two apart, stands there, too.
        channels_last: the layout of the output.
    """

    y: Tensor
    norm_scale: Tensor
    norm_shift: Tensor
    positive: bool
    pool: bool
    c: Tensor
    bias: Tensor | None
    input_scale: Tensor
    weight_scale: Tensor
    max_weight_code: int
    bits: int
    stride: Sequence[int]
    padding: Sequence[int]
    save: bool
    channels_last: bool

    def product(self) -> Call:
        """Return the product by itself; its x has a shape only."""
        x = self.y.new_empty(1).expand(pooled(self.y.shape, self.pool))
        return Call(
            x,
            self.c,
            self.bias,
            self.input_scale,
            self.weight_scale,
            self.max_weight_code,
            self.bits,
            None,
            self.stride,
            self.padding,
            1,
            True,
            self.save,
        )

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what is computed, empty, in the order of memory."""
        samples, channels, rows, columns = pooled(self.y.shape, self.pool)
        shape = [samples, rows, columns, channels] if self.pool and self.save else [0]
        return *self.product().results(), self.y.new_empty(shape, dtype=torch.uint8)


def pooled(shape: Sequence[int], pool: bool) -> list[int]:
    """Return the shape of what the quantizer gets."""
    by = 2 if pool else 1
    return [*shape[:2], *(extent // by for extent in shape[2:])]


def _runtime() -> ModuleType:
    from bitorch_runtime import training_norm

    return training_norm


def _to_memory(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 1).contiguous()


def _moments(y: Tensor) -> tuple[Tensor, Tensor]:
    share_threads()
    mean, variance = _runtime().moments(_to_memory(y).numpy(), threads=torch.get_num_threads())
    return torch.from_numpy(mean), torch.from_numpy(variance)


def _moments_fake(y: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(y.new_empty(y.shape[1], dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def _compute(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call = NormCall(*arguments)
    result, saved, codes, winners = call.results()
    codes.copy_(call.c.permute(0, 2, 3, 1))
    runtime = _runtime()
    share_threads()
    runtime.conv2d(
        _to_memory(call.y).numpy(),
        runtime.Affine(call.norm_scale.numpy(), call.norm_shift.numpy(), None),
        codes.numpy(),
        float(call.input_scale),
        numbers(call.weight_scale),
        bits=call.bits,
        positive=call.positive,
        pool=call.pool,
        bias=None if call.bias is None else copied(call.bias),
        stride=tuple(call.stride),
        padding=tuple(call.padding),
        save=call.save,
        out=(
            result.numpy(),
            saved.numpy() if call.save else None,
            winners.numpy() if call.save and call.pool else None,
        ),
        threads=torch.get_num_threads(),
    )
    return laid_out(result, call.channels_last), saved, codes, winners


def _compute_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call = NormCall(*arguments)
    result, saved, codes, winners = call.results()
    return laid_out(result, call.channels_last), saved, codes, winners


def _backward(
    gradient: Tensor, y: Tensor, mean: Tensor, inverse: Tensor, gamma: Tensor | None
) -> tuple[Tensor, Tensor]:
    of_gamma, of_beta = _of_channels(y)
    memory = _to_memory(gradient)
    _run_backward(memory, y, None, mean, inverse, gamma, (memory, of_gamma, of_beta))
    if memory.data_ptr() != gradient.data_ptr():  # a copy, as the channels were not last
        gradient.copy_(memory.permute(0, 3, 1, 2))
    return of_gamma, of_beta


def _backward_fake(_: Tensor, y: Tensor, *__: Any) -> tuple[Tensor, Tensor]:
    return _of_channels(y)


def _pool_backward(
    gradient: Tensor, y: Tensor, winners: Tensor, mean: Tensor, inverse: Tensor, gamma: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    of_y, (of_gamma, of_beta) = _in_memory(y), _of_channels(y)
    _run_backward(_to_memory(gradient), y, winners, mean, inverse, gamma, (of_y, of_gamma, of_beta))
    return laid_out(of_y, True), of_gamma, of_beta


def _pool_backward_fake(_: Tensor, y: Tensor, *__: Any) -> tuple[Tensor, Tensor, Tensor]:
    return laid_out(_in_memory(y), True), *_of_channels(y)


def _run_backward(
    gradient: Tensor,
    y: Tensor,
    winners: Tensor | None,
    mean: Tensor,
    inverse: Tensor,
    gamma: Tensor | None,
    results: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradients of y, gamma and beta; gradient [N, H, W, C] and results are in the order of memory."""
    runtime = _runtime()
    share_threads()
    runtime.backward(
        gradient.numpy(),
        _to_memory(y).numpy(),
        None if winners is None else winners.numpy(),
        mean.numpy(),
        runtime.Affine(None, None, inverse.numpy()),
        None if gamma is None else copied(gamma),
        out=tuple(result.numpy() for result in results),
        threads=torch.get_num_threads(),
    )


def _in_memory(y: Tensor) -> Tensor:
    """Return the gradient of y in the order of memory, empty."""
    samples, channels, rows, columns = y.shape
    return y.new_empty([samples, rows, columns, channels])


def _of_channels(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of gamma and of beta, empty."""
    return y.new_empty(y.shape[1]), y.new_empty(y.shape[1])


register(_LIBRARY, "channel_moments", _moments, _moments_fake)
register(_LIBRARY, "norm_product", _compute, _compute_fake)
register(_LIBRARY, "norm_backward_", _backward, _backward_fake)
register(_LIBRARY, "norm_pool_backward", _pool_backward, _pool_backward_fake)
