"""Ternary weights by a threshold, with a scale that is a statistic of the weight."""

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


class WeightTWN(Quantization):
    """Weights to −α, 0 and α (TWN).

    Li et al. 2016, "Ternary Weight Networks", https://arxiv.org/abs/1605.04711. With the paper's approximation of the
    threshold that is best for a normal distribution:

    Forward: α·sign(w)·1[|w| > Δ], Δ = 0.7·mean|w|, α = mean of |w| over |w| > Δ. Codes −1, 0, 1; scale α.
    Backward: g. Δ and α are constants of it.
    Statistics run over the whole weight, or over each output channel (dimension 0) with per_channel; the scale is then
    of shape [channels, 1, …].
    At 0: 0. All zeros: all 0, α = 0, and the gradient is g. A constant c: all c. The bits are fixed: the codes take 2.
    NaN or inf in the weight makes α NaN, and so every value that it scales.

    Args:
        per_channel: whether each output channel has a threshold and a scale of its own.

    Raises:
        TypeError: a weight that is not floating point.
    """

    name = "weighttwn"
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
        weight = as_internal(x, "WeightTWN")
        codes: Tensor = _TernaryCodes.apply(weight, self._threshold(weight.detach()))
        return codes

    def scale(self, x: Tensor) -> Tensor:
        weight = as_internal(x.detach(), "WeightTWN")
        if x.numel() == 0:
            return weight.new_zeros((*x.shape[:1], *[1] * (x.dim() - 1)) if self.per_channel else ())
        magnitude = weight.abs()
        over = magnitude > self._threshold(weight)
        # A product instead of where(): NaN and inf stay visible.
        return self._sum(magnitude * over) / self._sum(over.to(weight.dtype)).clamp_(min=1)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight [channels, …]; see the class for the formula."""
        value: Tensor = CodeValue.apply(self.codes(x), 1, self.scale(x))
        return value.to(x.dtype)

    def _threshold(self, weight: Tensor) -> Tensor:
        count = weight.numel()
        if count > 0 and self.per_channel:
            count //= weight.shape[0]
        return self._sum(weight.abs()) * (0.7 / max(count, 1))

    def _sum(self, x: Tensor) -> Tensor:
        """Sum over all that shares a scale, to a shape that broadcasts against x."""
        if not self.per_channel:
            return x.sum()
        axes = tuple(range(1, x.dim()))
        return x.sum(axes, keepdim=True) if axes else x

    def extra_repr(self) -> str:
        return f"bits=2, per_channel={self.per_channel}"
