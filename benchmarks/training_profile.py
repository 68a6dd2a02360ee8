"""Where the time of a training step goes, by kinds of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.autograd.profiler_util import FunctionEvent

#: Parts of the names of PyTorch's events, those of the backward pass among them. The first kind that fits counts.
KINDS = {
    "low-bit, backward": (
        "_IntegerProductBackward", "bitorch::integer_product_backward", "_ScaledProductBackward", "_UnitCodesBackward",
    ),
    "low-bit, forward": (
        "_IntegerProduct", "bitorch::integer_product", "bitorch::norm_product", "_ScaledProduct", "_UnitCodes",
    ),
    "convolutions": ("conv",),
    "BatchNorm": (
        "batch_norm", "batchnorm", "bitorch::channel_moments", "bitorch::norm_backward_", "bitorch::norm_pool_backward",
    ),
    "pooling": ("pool",),
    "ReLU": ("relu", "threshold"),
    "dropout": ("dropout", "bernoulli"),
    "optimizer": ("optimizer",),
    # Of the functions here these nets have no other use.
    "weight quantizers": ("codes", "tanh", "amax", "abs", "aten::mean", "MeanBackward", "aten::div", "DivBackward"),
}  # fmt: skip
REST = "the rest"


def milliseconds_by_kind(step: Callable[[], object]) -> dict[str, float]:
    """Make a step; return the milliseconds of each kind, and of the rest.

    An operator's time is that of the outermost one around it whose name says a kind: what a convolution allocates is
    its own. The rest is what has no kind, such as the loss.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    events = profiler.events()
    assert events is not None
    spent = dict.fromkeys((*KINDS, REST), 0.0)
    _add([event for event in events if event.cpu_parent is None], None, spent)
    return {kind: microseconds / 1e3 for kind, microseconds in spent.items()}


def kind_of(name: str) -> str | None:
    """Return the kind of an event's name, or None."""
    lower = name.lower()
    fitting = (kind for kind, parts in KINDS.items() if any(part.lower() in lower for part in parts))
    return next(fitting, None)


def _add(events: Iterable[FunctionEvent], outer: str | None, spent: dict[str, float]) -> None:
    for event in events:
        kind = kind_of(event.name) if outer is None else outer
        spent[REST if kind is None else kind] += event.self_cpu_time_total
        _add(event.cpu_children, kind, spent)
