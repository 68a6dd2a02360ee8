"""What a paper's whole training costs, in multiply-adds: an estimate from the net's shape alone."""

from __future__ import annotations

import torch

from bitorch.models import build
from bitorch.reporting.macs import count_macs

#: A step back multiplies about twice as often as the step forward: once for inputs and once for weights.
_FORWARD_AND_BACK = 3


def macs_of(net: str, side: int, classes: int) -> int:
    """Return the multiply-adds of one RGB image of side×side pixels on its way forward; of shapes, without numbers."""
    with torch.device("meta"):
        model = build(net, 3, classes).eval()
        return sum(count_macs(model, {}, [torch.empty(1, 3, side, side)]).values())


def cost_line(name: str, net: str, side: int, classes: int, images: int, epochs: int) -> str:
    """Return what so many epochs of so many images cost, as a line of text."""
    macs = macs_of(net, side, classes)
    total = _FORWARD_AND_BACK * macs * images * epochs
    return f"{name}: {epochs} epochs × {images:,} images × {macs:,} multiply-adds × 3 (forward and back) = {total:.2g}"
