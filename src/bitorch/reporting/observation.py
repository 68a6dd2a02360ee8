"""One run of the model on its example: which layers are called, in which order, and what comes to their quantizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..containers import tensors_in
from ..deployment.capture.runs import CannotRun, run
from ..quantizations import Quantization
from ..running import hooked
from .histograms import merged, plain
from .parts import possible_levels, quantizers
from .rows import ActivationRange, Histogram, Levels

#: Beyond every level, and short of what overflows when it is divided by a small step.
_FAR = 1e30


@dataclass
class Observation:
    """What was seen, by the names of parts. Dicts are in the order of the first calls.

    Attributes:
        shapes: of the first result, without the batch.
        levels, ranges, histograms: of the inputs of quantizers.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    levels: dict[str, Levels] = field(default_factory=dict)
    ranges: dict[str, ActivationRange] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)


def observe(model: nn.Module, parts: Mapping[str, nn.Module], example: Sequence[Tensor]) -> Observation:
    """Run the model once.

    Raises:
        ValueError: its forward fails on the example, or returns no tensors.
    """
    watch = _Watch()
    with hooked(parts, watch.enter, watch.leave):
        try:
            run(model, example, "the example", "Pass an example that the model takes")
        except CannotRun as failed:
            raise ValueError(str(failed.problem)) from failed.problem.cause
    for name, seen in watch.seen.items():
        watch.found.levels[name] = Levels(int(seen.codes.count_nonzero()), seen.possible)
    return watch.found


@dataclass
class _Seen:
    """How many levels a quantizer has, and how often each code came, counted from the lowest."""

    possible: int
    codes: Tensor
    numbers: int = 0


class _Watch:
    def __init__(self) -> None:
        self.found = Observation()
        self.seen: dict[str, _Seen] = {}
        self._order: list[str] = []

    def enter(self, name: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.found.shapes.setdefault(name, ())
        quantizer = quantizers(part)[1]
        x = args[0] if args else next(iter(kwargs.values()), None)
        if quantizer is not None and isinstance(x, Tensor) and x.is_floating_point() and x.numel() > 0:
            self._look(name, quantizer, x.detach())

    def leave(self, name: str, part: nn.Module, result: object) -> None:
        tensors = tensors_in(result)
        if tensors and not self.found.shapes[name]:
            self.found.shapes[name] = tuple(tensors[0].shape[1:])

    def _look(self, name: str, quantizer: Quantization, x: Tensor) -> None:
        histogram = plain(x)
        if histogram is None:  # nothing is finite
            return
        earlier = self.found.histograms.get(name)
        self.found.histograms[name] = histogram if earlier is None else merged(earlier, histogram)
        possible = possible_levels(quantizer)
        low = high = None
        count = 0 if name not in self.seen else self.seen[name].numbers
        if possible is not None:
            self._count_levels(name, quantizer, x, possible)
            low, high = clip_range(quantizer, x)
        self._add_range(name, _range(x, low, high), count, x.numel())

    def _count_levels(self, name: str, quantizer: Quantization, x: Tensor, possible: int) -> None:
        largest = quantizer.exact_max_code
        assert largest is not None  # or there are no levels
        codes = quantizer.codes(x)
        places = (codes[codes.isfinite()] + largest).long().clamp_(0, 2 * largest)
        counts = torch.bincount(places, minlength=2 * largest + 1)
        seen = self.seen.setdefault(name, _Seen(possible, torch.zeros_like(counts)))
        seen.codes += counts
        seen.numbers += x.numel()

    def _add_range(self, name: str, new: ActivationRange, count: int, added: int) -> None:
        """Keep the range of all calls; shares are means weighted with how many numbers a call had."""
        old = self.found.ranges.get(name)
        if old is not None:
            new = replace(
                new,
                minimum=min(old.minimum, new.minimum),
                maximum=max(old.maximum, new.maximum),
                below=_mean(old.below, count, new.below, added),
                above=_mean(old.above, count, new.above, added),
            )
        self.found.ranges[name] = new


def _mean(one: float | None, count: int, other: float | None, added: int) -> float | None:
    return None if one is None or other is None else (one * count + other * added) / (count + added)


def clip_range(quantizer: Quantization, x: Tensor) -> tuple[float | None, float | None]:
    """Return the values of a quantizer's lowest and highest level.

    None of a sign, to which all is the same but 0, and where each row has levels of its own.
    """
    if quantizer.is_by_row or (not quantizer.unsigned and quantizer.max_code == 1):
        return None, None
    scale = quantizer.scale(x)
    ends = [quantizer.codes(torch.full_like(x[:1], far)) * scale for far in (-_FAR, _FAR)]
    return float(ends[0].min()), float(ends[1].max())


def _range(x: Tensor, low: float | None, high: float | None) -> ActivationRange:
    finite = x[x.isfinite()]
    below = above = None
    if low is not None and high is not None:
        below, above = float((x < low).float().mean()), float((x > high).float().mean())
    return ActivationRange(float(finite.min()), float(finite.max()), low, high, below, above)
