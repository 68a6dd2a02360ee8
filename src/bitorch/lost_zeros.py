"""Weights that are exactly 0, as pruning leaves them, under a quantizer that has no level at 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers.low_bit import WeightQuantized

#: Share of the weights from which on zeros are no accident.
_NOTABLE = 0.05


@dataclass(frozen=True)
class LostZeros:
    """Zeros of a layer's weight that the quantizer turns into something else.

    Attributes:
        share: of the weights that are 0, in [0, 1].
        level: mean of what they become.
        padding: the row of an embedding that padding reads, where it is all zero and the other zeros are few; None
            for zeros all over the weight.
    """

    share: float
    level: float
    padding: int | None = None

    def __str__(self) -> str:
        if self.padding is not None:
            return f"the row {self.padding} of zeros, for padding, becomes {self.level:.3g}: there is no level at 0"
        return f"{self.share:.0%} of the weights are 0 and become {self.level:.3g}: there is no level at 0"


def lost_zeros(layer: nn.Module) -> LostZeros | None:
    """Return the zeros that a low-bit layer's weight loses, of the projections of attention the most; else None."""
    if not isinstance(layer, WeightQuantized):
        found = [lost_zeros(part) for part in layer.children()]
        return max((lost for lost in found if lost is not None), key=lambda lost: lost.share, default=None)
    weight = layer._current_weight().detach()
    if weight.is_meta or not weight.numel():
        return None
    is_zero = weight == 0
    share = float(is_zero.float().mean())
    row = getattr(layer, "padding_idx", None)
    padding = row if share < _NOTABLE and isinstance(layer, nn.Embedding) and isinstance(row, int) else None
    if share < _NOTABLE and (padding is None or not bool(is_zero[padding].all())):
        return None
    with torch.no_grad():
        values = layer.weight_quantization(weight)
        became = values[is_zero] if padding is None else values[padding]
    became = became[became != 0]
    if not len(became) or not bool(became.isfinite().all()):
        return None
    return LostZeros(share, float(became.mean()), padding)
