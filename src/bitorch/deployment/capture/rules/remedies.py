"""What to write instead, where that depends on the dimensions of a tensor."""

from __future__ import annotations

from torch import Tensor

from ..problems import PARTIAL


def constant_per_channel(x: Tensor) -> str:
    """What to use where a constant that is combined with x has another shape."""
    if x.dim() < 2:
        return f"Use one number, {PARTIAL}"
    shape = ", ".join(["1", "channels" if x.dim() > 2 else "features", *["1"] * (x.dim() - 2)])
    return f"Use one number, or one per channel: shape [{shape}], {PARTIAL}"
