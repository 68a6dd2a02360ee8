"""What ternary weights have in common whose threshold and scale are statistics of the weight."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import STE, CodeValue, Quantization, as_internal


class _TernaryCodes(STE):
    """1 for w > Δ, −1 for w < −Δ, else 0 forward, g backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, threshold: Tensor) -> Tensor:  # type: ignore[override]  # STE with an option
        return (input_tensor > threshold).to(threshold.dtype).sub_((input_tensor < -threshold).to(threshold.dtype))

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        return output_gradient, None


class TernaryWeight(Quantization):
    """Weights to −α, 0 and α, where |w| is above a threshold Δ and where not. A subclass has formulas for Δ and α.

    Args:
        per_channel: whether each output channel has a threshold and a scale of its own.
    """

    bit_width = 2
    grid = "signed"
    is_pointwise = False

    def __init__(self, per_channel: bool = False) -> None:
        super().__init__()
        self.per_channel = per_channel

    @property
    def max_code(self) -> int | None:
        return 1

    def codes(self, x: Tensor) -> Tensor:
        weight = as_internal(x, type(self).__name__)
        codes: Tensor = _TernaryCodes.apply(weight, self._threshold(weight.detach()))
        return codes

    def scale(self, x: Tensor) -> Tensor:
        weight = as_internal(x.detach(), type(self).__name__)
        if x.numel() == 0:
            return weight.new_zeros((*x.shape[:1], *[1] * (x.dim() - 1)) if self.per_channel else ())
        return self._scale(weight)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight [channels, …]; see the class for the formula."""
        value: Tensor = CodeValue.apply(self.codes(x), 1, self.scale(x))
        return value.to(x.dtype)

    def _threshold(self, weight: Tensor) -> Tensor:
        """Return Δ, which broadcasts against the weight; 0 of an empty one."""
        raise NotImplementedError

    def _scale(self, weight: Tensor) -> Tensor:
        """Return α of a weight that has numbers, which broadcasts against it."""
        raise NotImplementedError

    def _sum(self, x: Tensor) -> Tensor:
        """Sum over all that shares a scale, to a shape that broadcasts against x."""
        if not self.per_channel:
            return x.sum()
        axes = tuple(range(1, x.dim()))
        return x.sum(axes, keepdim=True) if axes else x

    def _count(self, weight: Tensor) -> int:
        """Return how many numbers share a scale, at least 1."""
        count = weight.numel()
        return max(count // weight.shape[0] if count > 0 and self.per_channel else count, 1)

    def extra_repr(self) -> str:
        return f"bits=2, per_channel={self.per_channel}"
