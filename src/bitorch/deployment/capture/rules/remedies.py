"""What to write instead, where that depends on the dimensions of a tensor."""

from __future__ import annotations

from torch import Tensor

from ..problems import PARTIAL

#: By the dimensions of a tensor, batch included: what adds up its channels with fixed weights.
_OVER_CHANNELS = {2: "nn.Linear", 3: "nn.Conv1d with a kernel of 1", 4: "nn.Conv2d with a kernel of 1"}


def instead_of_mean(x: Tensor, over: set[int]) -> str:
    """What to use where a mean of x over these dimensions is refused."""
    if over == {1} and x.dim() in _OVER_CHANNELS:
        return f"Use {_OVER_CHANNELS[x.dim()]}, whose weights are all {1 / x.shape[1]:.6g}, {PARTIAL}"
    if x.dim() == 4 and over in ({2}, {3}):
        window = f"({x.shape[2]}, 1)" if over == {2} else f"(1, {x.shape[3]})"
        return f"Use F.avg_pool2d(x, {window}), or {_over_pixels('mean', x)} over all pixels, {PARTIAL}"
    if x.dim() < 3 or 0 in over or not over:
        return f"Take means within images only, {PARTIAL}"
    return f"Use {_over_pixels('mean', x)}, over all pixels, {PARTIAL}"


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
