"""What to write instead, where that depends on the dimensions of a tensor."""

from __future__ import annotations

from torch import Tensor

from ..problems import PARTIAL


def instead_of_maximum(x: Tensor) -> str:
    """What to use where a maximum or minimum of x over other dimensions than all pixels is refused."""
    if x.dim() not in (3, 4):
        return f"Take it outside of the model, {PARTIAL}"
    return f"Use {_over_pixels('amax', x)} or F.adaptive_max_pool{x.dim() - 2}d(x, 1), over all pixels, {PARTIAL}"


def constant_per_channel(x: Tensor) -> str:
    """What to use where a constant that is combined with x has another shape."""
    if x.dim() < 2:
        return f"Use one number, {PARTIAL}"
    shape = ", ".join(["1", "channels" if x.dim() > 2 else "features", *["1"] * (x.dim() - 2)])
    return f"Use one number, or one per channel: shape [{shape}], {PARTIAL}"


def _over_pixels(function: str, x: Tensor) -> str:
    """How a method is called over all pixels of x [batch, C, H, W] or [batch, C, L]."""
    return f"x.{function}((2, 3))" if x.dim() == 4 else f"x.{function}(2)"
