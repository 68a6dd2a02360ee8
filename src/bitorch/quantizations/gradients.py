"""What the quantizers of gradients share: the identity forward, a maximum per sample, codes and noise.

A gradient in few bits is codes times a step for each sample, so that a layer can compute on the codes and scale once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from .base import Quantization, as_internal
from .bits import FLOAT_BITS, check_bits
from .noise import Key, draw_bits, draw_key, key_of, noise

#: Numbers that a CPU rounds at once: what all steps of it touch stays in the cache.
_RUN_ON_CPU = 2**18
#: Elsewhere, so that the words of noise can be counted in 32 bits.
_RUN = 2**31


class GradientCodes(NamedTuple):
    """A gradient [B, …] in few bits: its value is `codes * multiple * step`.

    Attributes:
        codes: float32 or float64, in the memory order of the gradient; `codes * multiple` are what the class counts in,
            and every one is a multiple of some power of two, so that sums of them are exact.
        step: what one is worth, [B, 1, …], or [1, 1, …] with one maximum for all samples; NaN where the sample has a
            NaN or an infinity.
        multiple: 2 of codes that are odd integers, which are kept halved; else 1. A power of two: exact.
        largest: how many times that power of two a code is at most.
    """

    codes: Tensor
    step: Tensor
    multiple: int
    largest: int


class GradientQuantization(Quantization):
    """Base of the quantizers of gradients: the identity forward, f backward; a subclass defines `_quantized`.

    Args:
        bits: 1…8, or 32 for none; a subclass may allow fewer.
        noise: whether f rounds stochastically.
        generator: source of the noise; None takes PyTorch's global one of the gradient's device. Each backward pass
            draws 64 bits from it, of which the noise is a function: see `noise`.
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
        codes, step, multiple, _ = self._coded(gradient, None)
        return codes.mul_(multiple).mul_(step)  # first the integer: the product rounds once

    def _grid(self, largest: Tensor) -> tuple[Tensor, int, int]:
        """Return `step`, `multiple` and `largest` of the codes, for maxima of samples."""
        raise NotImplementedError(f"{type(self).__name__} does not define _quantized(gradient)")

    def _rounded(self, gradient: Tensor, largest: Tensor, drawn: Tensor | None, out: Tensor | None) -> Tensor:
        """Return the codes of some samples, in a new tensor or in `out`.

        Args:
            largest: their maxima, of as many axes; 0 for what counts as zero.
            drawn: int16 in units of 2^-16, as the gradient; None rounds to the nearest.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define _quantized(gradient)")

    def _axes(self, gradient: Tensor) -> tuple[int, ...]:
        """Return the axes that a maximum is taken over: all but the first, which is the batch."""
        return tuple(range(1, gradient.dim()))

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
        if self._passes(gradient):
            return gradient
        return self._quantized(as_internal(gradient, type(self).__name__)).to(gradient.dtype)

    def coded(self, gradient: Tensor, channels: int | None = None) -> GradientCodes | None:
        """Return the codes behind f(gradient); None where the gradient passes as it is: of 32 bits, or empty.

        Args:
            gradient: [batch, …].
            channels: the axis whose numbers the noise counts innermost. None: 1 of four and five axes, the images and
                volumes of a convolution, and else the last.
        """
        if self._passes(gradient):
            return None
        return self._coded(as_internal(gradient, type(self).__name__), channels)

    def _passes(self, gradient: Tensor) -> bool:
        if gradient.dim() == 0:
            raise ValueError(f"{type(self).__name__}: the gradient needs a batch axis, got a 0-dim tensor")
        return self.bit_width == FLOAT_BITS or gradient.numel() == 0

    def draw_bits(self, device: torch.device) -> Tensor | None:
        """Return what the noise of one backward pass is made of, int64 [1], or None without noise."""
        return draw_bits(device, self.generator) if self.noise else None

    def coded_by(self, gradient: Tensor, channels: int | None, bits: Tensor | None) -> GradientCodes:
        """Return the codes of `coded`, with the noise of what `draw_bits` returned."""
        internal = as_internal(gradient, type(self).__name__)
        return self._coded_with(internal, channels, None if bits is None else key_of(bits, gradient.device))

    def _coded(self, gradient: Tensor, channels: int | None) -> GradientCodes:
        key = draw_key(gradient.device, self.generator) if self.noise else None
        return self._coded_with(gradient, channels, key)

    def _coded_with(self, gradient: Tensor, channels: int | None, key: Key | None) -> GradientCodes:
        largest = maximum(gradient, self._axes(gradient))
        samples = gradient.shape[0]
        size = _samples_at_once(gradient)
        if size >= samples:
            drawn = None if key is None else _noise_like(gradient, key, 0, channels)
            codes = self._rounded(gradient, largest, drawn, None)
            return GradientCodes(codes, *self._grid(largest))
        codes = torch.empty_like(gradient)
        of_each = largest.expand(samples, *largest.shape[1:])
        for run in _runs(samples, size):
            drawn = None if key is None else _noise_like(gradient[run], key, run.start, channels)
            self._rounded(gradient[run], of_each[run], drawn, codes[run])
        return GradientCodes(codes, *self._grid(largest))

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, noise={self.noise}"


#: What decides on f, as the class was made: somebody may replace them.
_DECIDING = {
    name: getattr(GradientQuantization, name)
    for name in ("quantize", "forward", "quantize_gradient", "_quantized", "coded", "_coded")
}


def codes_are_gradients(quantizer: nn.Module) -> TypeGuard[GradientQuantization]:
    """Say whether a gradient quantizer's `coded` stands for the gradient that a call of it gives.

    So it is with those of the library, and not where somebody has put another method in the place of one of theirs.
    """
    cls, instance = type(quantizer), quantizer.__dict__
    if not issubclass(cls, GradientQuantization) or cls.__call__ is not nn.Module.__call__:
        return False  # as nn.Module is now: torch.export replaces it while it runs
    if cls._rounded is GradientQuantization._rounded:
        return False
    return all(getattr(cls, name) is made and name not in instance for name, made in _DECIDING.items())


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
    largest = largest + (largest - largest)  # NaN of infinity
    # Smaller ones than 2^-120 have no representable reciprocal: this is the float32 before it. The number stands here
    # because torch.compile takes a float of the module for a variable. NaN stays NaN.
    return F.threshold(largest, 2.0**-120 - 2.0**-144, 0.0)


def or_one(largest: Tensor) -> Tensor:
    """Return what to divide by: the maximum, or 1 where it is 0."""
    return torch.where(largest == 0, 1, largest)


def with_noise_(x: Tensor, drawn: Tensor) -> Tensor:
    """Add noise in units of 2^-16 to x in place."""
    return x.add_(drawn.to(x.dtype), alpha=2.0**-16)  # converted by a call of its own, which is faster


def integers_behind(quantizer: GradientQuantization, gradient: Tensor, above: float) -> tuple[Tensor, Tensor]:
    """Return the integers `above` which the codes of a gradient lie, int8, and the maxima of its samples.

    Raises:
        ValueError: a quantizer of 32 bits, or an empty gradient: there are no codes.
    """
    coded = quantizer.coded(gradient)
    if coded is None:
        raise ValueError(
            f"{type(quantizer).__name__}: there are no codes with {quantizer.bit_width} bits and a gradient of shape "
            f"{list(gradient.shape)}; take up to 8 bits and a gradient that is not empty"
        )
    internal = as_internal(gradient, type(quantizer).__name__)
    return coded.codes.sub_(above).to(torch.int8), maximum(internal, quantizer._axes(internal))


def _samples_at_once(gradient: Tensor) -> int:
    is_one_loop = torch.compiler.is_compiling() or not gradient.is_cpu
    in_sample = gradient.numel() // gradient.shape[0]
    return max(1, (_RUN if is_one_loop else _RUN_ON_CPU) // in_sample)


def _runs(samples: int, size: int) -> Iterator[slice]:
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def _noise_like(gradient: Tensor, key: Key, first: int, channels: int | None) -> Tensor:
    """Return the noise of samples from `first` on, int16 of the gradient's shape."""
    if channels is None:
        channels = 1 if gradient.dim() in (4, 5) else -1
    axis = channels % gradient.dim()
    samples, *axes = gradient.shape
    drawn = noise(key, first, samples, gradient.numel() // samples, gradient.device)
    if axis in (0, gradient.dim() - 1):
        return drawn.view(gradient.shape)
    of_channels = axes.pop(axis - 1)
    drawn = drawn.view(samples, *axes, of_channels).movedim(-1, axis)
    return drawn.contiguous() if gradient.is_contiguous() else drawn  # int16 is moved in less time than it is read
