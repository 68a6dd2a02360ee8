"""What ternary weights have in common whose threshold and scale are statistics of the weight."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import STE, CodeValue, as_internal
from .weight_groups import GroupedWeight


class _TernaryCodes(STE):
    """1 for w > Δ, −1 for w < −Δ, else 0 forward, g backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, threshold: Tensor) -> Tensor:  # type: ignore[override]  # STE with an option
        return (input_tensor > threshold).to(threshold.dtype).sub_((input_tensor < -threshold).to(threshold.dtype))

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        return output_gradient, None


class TernaryWeight(GroupedWeight):
    """Weights to −α, 0 and α, where |w| is above a threshold Δ and where not. A subclass has formulas for Δ and α.

    Args:
        per_channel: whether each output channel has a threshold and a scale of its own.
        group_size: how many inputs of an output channel have one threshold and scale; None: no groups.
    """

    bit_width = 2
    grid = "signed"
    _largest = 1

    def __init__(self, per_channel: bool = False, group_size: int | None = None) -> None:
        super().__init__(per_channel, group_size)

    def codes(self, x: Tensor) -> Tensor:
        weight = as_internal(x, type(self).__name__)
        codes: Tensor = _TernaryCodes.apply(weight, self._threshold(weight.detach()))
        return codes

    def scale(self, x: Tensor) -> Tensor:
        weight = as_internal(x.detach(), type(self).__name__)
        return self._no_scale(weight) if x.numel() == 0 else self._scale(weight)

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
        if self.group_size is not None:
            return self._spread(self._shared(x).sum(1), x) if x.numel() > 0 else x
        if not self.per_channel:
            return x.sum()
        axes = tuple(range(1, x.dim()))
        return x.sum(axes, keepdim=True) if axes else x

    def _count(self, weight: Tensor) -> int:
        """Return how many numbers share a scale, at least 1."""
        if self.group_size is not None:
            return self.group_size
        count = weight.numel()
        return max(count // weight.shape[0] if count > 0 and self.per_channel else count, 1)

    def extra_repr(self) -> str:
        return f"bits=2, {self._scales_text()}"
