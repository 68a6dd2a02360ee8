"""PyTorch operators of convolutions of floats whose input has few channels: a net's first layer on images, in training.

`bitorch::few_channels` is the convolution, `bitorch::few_channels_backward` the gradient of its weight and bias; there
is none of its input. `bitorch_runtime.few_channels` says in which order sums are added. Layouts are as those of
`bitorch::integer_product`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .integer_product import copied, is_channels_last, laid_out
from .registration import register
from .training_threads import share_threads

if TYPE_CHECKING:
    from types import ModuleType

_LIBRARY = torch.library.Library("bitorch", "FRAGMENT")
_LIBRARY.define("few_channels(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor")
_LIBRARY.define(
    "few_channels_backward(Tensor gradient, Tensor x, int[] kernel_size, bool has_bias, int[] stride, int[] padding) "
    "-> (Tensor, Tensor)"
)
#: y of x float32 [N, C, H, W], weight [O, C, KH, KW] and bias [O]; stride and padding (vertical, horizontal).
few_channels = torch.ops.bitorch.few_channels.default
#: Gradients of weight and bias, the latter empty without one, of the gradient of y and x.
few_channels_backward = torch.ops.bitorch.few_channels_backward.default


def _runtime() -> ModuleType:
    from bitorch_runtime import few_channels

    return few_channels


def _to_memory(image: Tensor) -> Tensor:
    return image.detach().permute(0, 2, 3, 1).contiguous()


def _result(x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Return y, empty, in the order of memory."""
    out = [(x.shape[i + 2] + 2 * padding[i] - weight.shape[i + 2]) // stride[i] + 1 for i in range(2)]
    return x.new_empty([x.shape[0], *out, weight.shape[0]])


def _gradients(gradient: Tensor, x: Tensor, kernel_size: Sequence[int], has_bias: bool) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias, empty, in the order of memory."""
    outputs = gradient.shape[1]
    return x.new_empty([*kernel_size, x.shape[1], outputs]), x.new_empty(outputs if has_bias else 0)


def _compute(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    share_threads()
    y = _result(x, weight, stride, padding)
    _runtime().conv2d(
        _to_memory(x).numpy(),
        copied(weight.permute(2, 3, 1, 0)),
        None if bias is None else copied(bias),
        stride=tuple(stride),
        padding=tuple(padding),
        out=y.numpy(),
        threads=torch.get_num_threads(),
    )
    return laid_out(y, is_channels_last(x) or is_channels_last(weight))


def _compute_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    return laid_out(_result(x, weight, stride, padding), is_channels_last(x) or is_channels_last(weight))


def _compute_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    has_bias: bool,
    stride: Sequence[int],
    padding: Sequence[int],
) -> tuple[Tensor, Tensor]:
    share_threads()
    of_weight, of_bias = _gradients(gradient, x, kernel_size, has_bias)
    _runtime().weight_gradient(
        _to_memory(x).numpy(),
        _to_memory(gradient).numpy(),
        tuple(kernel_size),
        has_bias=has_bias,
        stride=tuple(stride),
        padding=tuple(padding),
        out=(of_weight.numpy(), of_bias.numpy() if has_bias else None),
        threads=torch.get_num_threads(),
    )
    return of_weight.permute(3, 2, 0, 1).contiguous(), of_bias


def _compute_backward_fake(
    gradient: Tensor, x: Tensor, kernel_size: Sequence[int], has_bias: bool, *_: Sequence[int]
) -> tuple[Tensor, Tensor]:
    of_weight, of_bias = _gradients(gradient, x, kernel_size, has_bias)
    return of_weight.permute(3, 2, 0, 1).contiguous(), of_bias


register(_LIBRARY, "few_channels", _compute, _compute_fake)
register(_LIBRARY, "few_channels_backward", _compute_backward, _compute_backward_fake)
