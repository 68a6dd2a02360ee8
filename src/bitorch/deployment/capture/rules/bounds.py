"""Rules for what lies between bounds: minimum, maximum, clamp, relu6, hardtanh."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .numbers import float32
from .pairs import Number, aligned, channels_of, operand, pair, with_constant


def relu6(call: Reader, input: Tensor, inplace: bool = False) -> str:
    """The rule of F.relu6."""
    return _clamp(call, input, 0.0, 6.0)


def hardtanh(call: Reader, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> str:
    """The rule of F.hardtanh."""
    return _clamp(call, input, min_val, max_val)


def minimum(call: Reader, input: Tensor, other: Tensor) -> str:
    """The rule of torch.minimum."""
    return _bounded(call, "minimum", torch.minimum, input, other)


def maximum(call: Reader, input: Tensor, other: Tensor) -> str:
    """The rule of torch.maximum."""
    return _bounded(call, "maximum", torch.maximum, input, other)


def _bounded(call: Reader, kind: str, function: Callable[..., Tensor], one: Tensor, other: Tensor) -> str:
    """A minimum or maximum of two tensors; with one number it is a clamp."""
    if call.varies(one) and call.varies(other):
        return pair(call, kind, function, one, other)
    x, bound = with_constant(call, one, other)
    if not _is_one_number(bound) or tuple(x.shape) != tuple(call.result.shape):
        return pair(call, kind, function, one, other)
    return _clamp(call, x, None, bound) if kind == "minimum" else _clamp(call, x, bound, None)


def clamp(call: Reader, input: Tensor, min: Number | None = None, max: Number | None = None) -> str:
    """The rule of torch.clamp: with numbers, or with a maximum and a minimum of tensors."""
    bounds = [bound for bound in (min, max) if bound is not None]
    if tuple(call.result.shape) == tuple(input.shape) and all(
        not call.varies(bound) and _is_one_number(torch.as_tensor(bound)) for bound in bounds
    ):
        return _clamp(call, input, min, max)
    if max is None:
        return pair(call, "maximum", torch.maximum, input, min)
    if min is None:
        return pair(call, "minimum", torch.minimum, input, max)
    channels = channels_of(call, [input, min, max])
    x, low, high = (operand(call, one, channels, [input, min, max]) for one in (input, min, max))
    raised = call.add(
        "maximum",
        x,
        low,
        function=aligned(torch.maximum),
        shape=_together(call, x, low),
        step="low",
        channels_at=channels,
    )
    return call.add("minimum", raised, high, function=aligned(torch.minimum), channels_at=channels)


def clamp_min(call: Reader, input: Tensor, min: Number) -> str:
    """The rule of torch.clamp_min."""
    return clamp(call, input, min, None)


def clamp_max(call: Reader, input: Tensor, max: Number) -> str:
    """The rule of torch.clamp_max."""
    return clamp(call, input, None, max)


def _clamp(call: Reader, x: Tensor, low: Number | None, high: Number | None) -> str:
    channels = call.channel_axis(x)
    name = call.read(x, channels)
    lower, upper = _bound(low, no_bound=-torch.inf), _bound(high, no_bound=torch.inf)
    if lower is None and upper is None:
        return call.add("identity", name, channels_at=channels)
    return call.add("clamp", name, channels_at=channels, low=lower, high=upper)


def _bound(bound: Number | None, no_bound: float) -> float | None:
    """Return a bound, None where there is none: also for the infinity that limits nothing."""
    if bound is None:
        return None
    number = float32(bound.detach().flatten()[0] if isinstance(bound, Tensor) else bound)
    if number == no_bound:
        return None
    if not math.isfinite(number):
        raise Refusal(f"it clamps to {number}, which no file can hold", f"Clamp with finite numbers, {PARTIAL}")
    return number


def _together(call: Reader, *names: str) -> tuple[int, ...]:
    sizes = zip(*(call.shape(name) for name in names), strict=True)
    return tuple(max(size) for size in sizes)


def _is_one_number(x: Tensor) -> bool:
    values = x.detach().flatten()
    return len(values) > 0 and bool((values == values[0]).all() | values.isnan().any())
