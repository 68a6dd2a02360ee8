"""Quantized activation: gradient cancellation, then a quantizer."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from ..quantizations import Quantization
from ..quantizations.base import as_internal, gradient_inside
from .config import config, resolve_quantization


class GradientCancellation(Function):
    """Identity forward; g·1[|x| ≤ threshold] backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(input_tensor)
        ctx.threshold = threshold
        return input_tensor.view_as(input_tensor)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient_inside(output_gradient, x, -ctx.threshold, ctx.threshold), None


def check_threshold(threshold: float) -> float:
    """Return a gradient_cancellation_threshold; ValueError where it is none."""
    if not 0 <= threshold < math.inf:
        raise ValueError(
            f"gradient_cancellation_threshold must be finite and at least 0 (0 switches it off), got {threshold}"
        )
    return threshold


class QActivation(nn.Module):
    """Quantize activations; the gradient is cancelled where |x| is larger than a threshold.

    Args:
        activation: a Quantization instance, the name of one, or None for `layers.config.config.input_quantization`.
        gradient_cancellation_threshold: 0 switches the cancellation off; None takes the config's (1.0).

    Raises:
        ValueError: an unknown name, a negative threshold. TypeError: something that is no Quantization.
    """

    def __init__(
        self, activation: Quantization | str | None = None, gradient_cancellation_threshold: float | None = None
    ) -> None:
        super().__init__()
        self.activation_function = resolve_quantization(activation, config.input_quantization, "activation")
        threshold = gradient_cancellation_threshold
        if threshold is None:
            threshold = config.gradient_cancellation_threshold
        self.gradient_cancellation_threshold = check_threshold(threshold)

    def cancel_gradient(self, x: Tensor) -> Tensor:
        """Return x, with the gradient cancellation attached where there is one."""
        if self.gradient_cancellation_threshold <= 0:
            return x
        cancelled: Tensor = GradientCancellation.apply(
            as_internal(x, "QActivation"), self.gradient_cancellation_threshold
        )
        return cancelled

    def forward(self, x: Tensor) -> Tensor:
        """Quantize x, a float tensor of any shape."""
        quantized: Tensor = self.activation_function(self.cancel_gradient(x))
        return quantized.to(x.dtype)

    def extra_repr(self) -> str:
        return f"gradient_cancellation_threshold={self.gradient_cancellation_threshold}"
