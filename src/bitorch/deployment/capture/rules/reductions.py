"""Rules for functions that make one number of all along some axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from . import bounds, windows

_Dims = int | Sequence[int] | None


def sum(
    call: Reader,
    input: Tensor,
    dim: _Dims = None,
    keepdim: bool = False,
    *,
    axis: _Dims = None,
    dtype: torch.dtype | None = None,
) -> str:
    """The rule of torch.sum."""
    return _reduced(call, input, dim if axis is None else axis, "reduce", reduction="sum", correction=0)


def mean(
    call: Reader,
    input: Tensor,
    dim: _Dims = None,
    keepdim: bool = False,
    *,
    axis: _Dims = None,
    dtype: torch.dtype | None = None,
) -> str:
    """The rule of torch.mean: over all pixels it is a pool."""
    dims = dim if axis is None else axis
    if windows.leaves_channels(input, dims):
        return windows.mean(call, input, dims, keepdim)
    return _reduced(call, input, dims, "reduce", reduction="mean", correction=0)


def extreme(function: str) -> Callable[..., str]:
    """Return the rule of torch.amax or amin; amax over all pixels is a pool."""

    def rule(call: Reader, input: Tensor, dim: _Dims = (), keepdim: bool = False) -> str:
        if function == "amax" and dim is not None and input.dim() <= 5 and windows.leaves_channels(input, dim):
            return windows.amax(call, input, dim, keepdim)
        return _reduced(call, input, dim, "extreme", reduction=function)

    return rule


def largest_or_maximum(
    call: Reader, input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None
) -> str:
    """The rule of torch.max: along an axis, of which the values can be deployed, or of two tensors."""
    second = dim if other is None else other
    if isinstance(second, Tensor):
        return bounds.maximum(call, input, second)
    return amax(call, input, second, keepdim)


def smallest_or_minimum(
    call: Reader, input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None
) -> str:
    """The rule of torch.min, as of max."""
    second = dim if other is None else other
    if isinstance(second, Tensor):
        return bounds.minimum(call, input, second)
    return amin(call, input, second, keepdim)


def place(function: str) -> Callable[..., str]:
    """Return the rule of torch.argmax or argmin."""

    def rule(call: Reader, input: Tensor, dim: int | None = None, keepdim: bool = False) -> str:
        return _reduced(call, input, dim, "place", reduction=function)

    return rule


def spread(function: str) -> Callable[..., str]:
    """Return the rule of torch.var or std."""

    def rule(
        call: Reader,
        input: Tensor,
        dim: _Dims | bool = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
        axis: _Dims = None,
    ) -> str:
        if isinstance(dim, bool):  # x.var(False): of all numbers, the batch among them
            dim, unbiased = None, dim
        taken = float(unbiased is not False) if correction is None else float(correction)
        return _reduced(call, input, dim if axis is None else axis, "reduce", reduction=function, correction=taken)

    return rule


def norm(
    call: Reader,
    input: Tensor,
    p: Any = "fro",
    dim: _Dims = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """The rule of torch.norm and of x.norm."""
    return _norm(call, input, p, dim)


def vector_norm(
    call: Reader, x: Tensor, ord: Any = 2, dim: _Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> str:
    """The rule of torch.linalg.vector_norm."""
    return _norm(call, x, ord, dim)


def _norm(call: Reader, x: Tensor, order: Any, dim: _Dims) -> str:
    if order not in (2, "fro", None):
        raise Refusal(f"a norm of order {order!r} cannot be deployed", f"Use p=2, {PARTIAL}")
    return _reduced(call, x, dim, "reduce", reduction="norm", correction=0)


def _reduced(call: Reader, x: Tensor, dims: _Dims, kind: str, **settings: Any) -> str:
    """Add the node of a call that reduces x along some of its dimensions."""
    given = [dims] if isinstance(dims, int) else [] if dims is None else list(dims)
    over = {dim % x.dim() for dim in given}
    if not over or 0 in over:
        where = f"dim={dims}" if over else "all dimensions"
        raise Refusal(
            f"a {settings['reduction']} over {where} takes the images of a batch together",
            f"Give the dimensions within an image, dim=1 or more, {PARTIAL}",
        )
    channels = call.channel_axis(x)
    name = call.read(x, channels)
    order = [channels, *(axis for axis in range(1, x.dim()) if axis != channels)]
    axes = tuple(i for i, axis in enumerate(order) if axis in over)
    kept = tuple(1 if axis in over else x.shape[axis] for axis in range(1, x.dim()))
    shape = tuple(call.result.shape[1:])
    call.placed = lambda v: v.movedim(1, channels).reshape(len(v), *shape)
    return call.add(kind, name, channels_at=channels, kept=kept, axes=axes, **settings)


amax, amin = extreme("amax"), extreme("amin")
argmax, argmin = place("argmax"), place("argmin")
var, std = spread("var"), spread("std")
#: Rules of functions that give integers, which can only leave.
OF_INTEGERS = frozenset({argmax, argmin})
#: Rules of functions whose results lack axes that they name.
REDUCING = OF_INTEGERS | {sum, mean, amax, amin, largest_or_maximum, smallest_or_minimum, var, std, norm, vector_norm}
