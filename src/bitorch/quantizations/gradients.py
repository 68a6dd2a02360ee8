"""What the quantizers of gradients share: the identity forward, a maximum per sample, and cheap random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .base import Quantization, as_internal
from .bits import FLOAT_BITS, check_bits


class GradientQuantization(Quantization):
    """Base of the quantizers of gradients: the identity forward, f backward; a subclass defines `_quantized`.

    Args:
        bits: 1…8, or 32 for none; a subclass may allow fewer.
        noise: whether f rounds stochastically.
        generator: source of the noise, on the gradient's device; None takes PyTorch's global one.
    """

    def __init__(self, bits: int, *, noise: bool = True, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.set_bits_(bits)
        self.noise = noise
        self.generator = generator

    def set_bits_(self, bits: int) -> None:
        self.bit_width = check_bits(bits)

    def _quantized(self, gradient: Tensor) -> Tensor:
        """Return f(gradient) for a gradient [batch, …] that is not empty, in float32 or float64."""
        raise NotImplementedError(f"{type(self).__name__} does not define _quantized(gradient)")

    def quantize(self, x: Tensor) -> Tensor:
        """Return x, shape [batch, …], with f applied to the gradient that comes back through it."""
        if x.dim() == 0:
            raise ValueError(f"{type(self).__name__}: the input needs a batch axis, got a 0-dim tensor")
        if self.bit_width == FLOAT_BITS:
            return x
        as_internal(x, type(self).__name__)
        value: Tensor = _QuantizedGradient.apply(x, self.quantize_gradient)
        return value

    def quantize_gradient(self, gradient: Tensor) -> Tensor:
        """Return f(gradient) for a gradient of shape [batch, …]: what the backward pass computes."""
        if gradient.dim() == 0:
            raise ValueError(f"{type(self).__name__}: the gradient needs a batch axis, got a 0-dim tensor")
        if self.bit_width == FLOAT_BITS or gradient.numel() == 0:
            return gradient
        return self._quantized(as_internal(gradient, type(self).__name__)).to(gradient.dtype)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, noise={self.noise}"


class _QuantizedGradient(Function):
    """x forward, f(g) backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.function = function
        # Shares memory without being a view to autograd: a view that a custom Function returns cannot be changed by an
        # in-place operation such as ReLU(inplace=True) behind it. Both still share a version, so misuse is an error.
        return x.detach()

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.function(output_gradient), None


def maximum(gradient: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return max|g| over axes that stay as 1, and 0 for what is below 2^-120; NaN for NaN and inf."""
    # Two reductions, because |g| would be one more pass over memory.
    largest = (
        torch.maximum(gradient.amax(dim=axes, keepdim=True), -gradient.amin(dim=axes, keepdim=True))
        if axes
        else gradient.abs()
    )
    largest = torch.where(largest == torch.inf, torch.nan, largest)
    # Smaller ones have no representable reciprocal. The number stands here because torch.compile takes a float of the
    # module for a variable.
    return torch.where(largest < 2.0**-120, 0, largest)


def sample_axes(gradient: Tensor) -> tuple[int, ...]:
    """All axes but the first, which is the batch."""
    return tuple(range(1, gradient.dim()))


def or_one(largest: Tensor) -> Tensor:
    """Return what to divide by: the maximum, or 1 where it is 0."""
    return torch.where(largest == 0, 1, largest)


def add_noise_(x: Tensor, drawn: Tensor) -> Tensor:
    """Add what `draw_noise` drew, as U(−½, ½), to x in place."""
    return x.add_(drawn, alpha=2.0**-16)


def draw_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw U(−½, ½) per element of `like`, as int16 in units of 2^-16 and in the memory order of `like`.

    Four draws come from each 64-bit random word, because drawing is the dearest part of gradient quantization on a CPU,
    whose generator is serial. The draws are odd, so they are symmetric and their mean is exactly 0; their 2^15 values
    leave a rounding a bias of at most 2^-16 of a step.
    """
    count = like.numel()
    words = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,), device=like.device, generator=generator)
    draws = words.bitwise_or_(0x0001_0001_0001_0001).view(torch.int16)[:count]
    shape = like.shape
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.dim())
    if channels_last is not None and like.is_contiguous(memory_format=channels_last):
        return draws.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
    return draws.view(shape)
