"""What `fuse_training_` makes of a float convolution of images: one that fills vectors with output channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..operators.few_channels import few_channels, few_channels_backward
from .integer_kernels import is_traced, machine_obstacle

#: Of an input. With more, matrix products of whole windows are as fast.
_MOST_CHANNELS = 4
#: Of an output: a vector of the widest kernels.
_FEWEST_OUTPUTS = 16


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.of_backward = list(weight.shape[2:]), bias is not None, stride, padding
        y: Tensor = few_channels(x, weight, bias, stride, padding)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        of_weight, of_bias = few_channels_backward(output_gradient, x, *ctx.of_backward)
        needs = ctx.needs_input_grad
        return None, of_weight if needs[1] else None, of_bias if needs[2] else None, None, None


class FewChannelsConv2d(nn.Conv2d):
    """nn.Conv2d of images whose gradient nobody wants; what else it gets, it computes as PyTorch does.

    In training it gives the numbers of nn.Conv2d to rounding, with sums whose order does not depend on the threads.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of input [N, C, H, W]."""
        if not self._takes(input):
            return super().forward(input)
        assert not isinstance(self.padding, str)  # few_channels_obstacle() says so
        y: Tensor = _Convolution.apply(input, self.weight, self.bias, self.stride, self.padding)
        return y

    def _takes(self, x: Tensor) -> bool:
        """Say whether the kernels compute this call."""
        if torch.compiler.is_compiling() or is_traced() or not self.training:
            return False
        if few_channels_obstacle(self) is not None or machine_obstacle() is not None:
            return False
        tensors = [x, self.weight, *([] if self.bias is None else [self.bias])]
        return (
            not x.requires_grad
            and x.dim() == 4
            and x.shape[1] == self.in_channels
            and self._has_windows(x)
            and all(type(t) in (Tensor, nn.Parameter) and t.is_cpu and t.dtype == torch.float32 for t in tensors)
            and not (x.is_inference() or torch.is_autocast_enabled("cpu"))
        )

    def _has_windows(self, x: Tensor) -> bool:
        """Say whether x has numbers, and is as large as the kernel: where not, PyTorch has an answer."""
        assert not isinstance(self.padding, str)  # few_channels_obstacle() says so
        sizes = zip(x.shape[2:], self.padding, self.kernel_size, strict=True)
        return x.numel() > 0 and all(extent + 2 * pad >= kernel for extent, pad, kernel in sizes)


def few_channels_obstacle(conv: nn.Conv2d) -> str | None:
    """Return why the kernels do not compute a convolution, by what it is, or None."""
    if conv.in_channels > _MOST_CHANNELS:
        return f"it has more than {_MOST_CHANNELS} input channels"
    if conv.out_channels < _FEWEST_OUTPUTS:
        return f"it has fewer than {_FEWEST_OUTPUTS} output channels"
    if conv.groups != 1 or tuple(conv.dilation) != (1, 1):
        return "it has groups or a dilation"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return f"its padding is {conv.padding if conv.padding_mode == 'zeros' else conv.padding_mode!r}"
    return None
