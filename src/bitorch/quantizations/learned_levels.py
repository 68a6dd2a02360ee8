"""What weight quantizers have in common that learn one number, which all levels are multiples of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .base import CodeValue, as_internal
from .bits import check_bits
from .layer_sizes import output_channels
from .learned_start import LearnedStart

if TYPE_CHECKING:
    from typing_extensions import Self


class LearnedLevels(LearnedStart):
    """Weights to 2^bits levels by a learned number, for the layer or for each output channel.

    A subclass says what the number is, and has formulas for codes and scale.

    Args:
        bits: 1…8, or 32 for none.
        channels: None for one number; else how many output channels there are, dim 0 of the weight.

    Raises:
        ValueError, TypeError: bits outside the set, channels below 1.
    """

    def __init__(self, bits: int, channels: int | None = None) -> None:
        super().__init__()
        self.bit_width = check_bits(bits)
        if channels is not None and channels < 1:
            raise ValueError(
                f"channels must be at least 1, or None for one {self._learned_name} per layer, got {channels}"
            )
        self.channels = channels

    #: What is learned, in messages.
    _learned_name = "step"

    def _unset(self) -> nn.Parameter:
        """Return a new Parameter for what is learned, which the weight is to set: 0-dim or [channels], float32."""
        return nn.Parameter(torch.full(() if self.channels is None else (self.channels,), float("nan")))

    @property
    def _is_held(self) -> bool:
        return self.bit_width > 1  # weights outside the levels get no gradient; at 1 bit only their signs matter

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.reshape(1 if self.channels is None else self.channels, -1)

    def for_layer(self, layer: nn.Module) -> Self:
        channels = None if self.channels is None else output_channels(layer)
        return type(self)(**{**self.arguments(), "channels": channels})

    def _check_weight(self, weight: Tensor) -> None:
        if self.channels is not None and weight.shape[0] != self.channels:
            raise ValueError(
                f"{type(self).__name__} has a {self._learned_name} for each of {self.channels} channels, but the "
                f"weight {list(weight.shape)} has {weight.shape[0]} in dim 0"
            )

    def _broadcast(self, learned: Tensor, x: Tensor) -> Tensor:
        """Return what is learned as it broadcasts against a weight."""
        if not self._is_set:
            name = type(self).__name__
            raise RuntimeError(
                f"{name} has no {self._learned_name} yet; call initialize_(weight), or give it to a layer"
            )
        return learned if self.channels is None else learned.view(-1, *[1] * (x.dim() - 1))

    def _factor(self, weight: Tensor) -> float:
        """Return 1/√(N·Q_P), N weights that share the number, by which its gradient is multiplied."""
        shared = weight.numel() if self.channels is None else weight[0].numel()
        return 1 / math.sqrt(max(1, shared) * positive(self.bit_width))

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        weight = as_internal(x, type(self).__name__)
        self._check_weight(weight)
        return self._codes(weight)

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        return self._scale(as_internal(x, type(self).__name__))

    def _codes(self, weight: Tensor) -> Tensor:
        """Return the codes of a weight, float32 or float64, with gradients."""
        raise NotImplementedError

    def _scale(self, weight: Tensor) -> Tensor:
        """Return what a code is worth as it broadcasts against the weight, in its dtype, without gradient."""
        raise NotImplementedError

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight, [C_out, …]; see the class for the formula."""
        if self.max_code is None:
            return x
        value: Tensor = CodeValue.apply(self.codes(x), self.max_code, self.scale(x))
        return value.to(x.dtype)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, channels={self.channels}"


def positive(bits: int) -> int:
    """Return Q_P = 2^(bits−1) − 1, and 1 at 1 bit."""
    return max(1, (1 << bits - 1) - 1)
