"""Which sizes a network takes: tried out, and said as a smallest size and a step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..running import as_it_was, hooked
from .capture.problems import PARTIAL
from .capture.runs import run_or_raise

#: Steps that are tried, in this order: most networks need a power of two.
_STEPS = (1, 2, 4, 8, 16, 32, 64, *(step for step in range(3, 64) if step & (step - 1) != 0))
#: Sizes of the same network at which it is compiled are about as large, or three steps.
_SMALL = 40
_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True)
class Axis:
    """A size that is open.

    Attributes:
        name: of it.
        size: of the example.
        places: (input, dimension of its tensor, share of the size) of all dimensions that have it, or a part of it.
    """

    name: str
    size: int
    places: tuple[tuple[int, int, float], ...]


def axes_of(example: Sequence[Tensor], channels: Sequence[int | None]) -> list[Axis]:
    """Return the sizes of an example that may be open: all dimensions but the batch and the channels.

    Dimensions of the same place and size in several inputs are one, also where one is a whole part of the other.

    Args:
        channels: of each input, the dimension of its channels; None where it has none.
    """
    axes: list[Axis] = []
    for index, (x, channel) in enumerate(zip(example, channels, strict=True)):
        dimensions = [d for d in range(1, x.dim()) if d != channel]
        names = _NAMES.get(len(dimensions), tuple(f"size {i}" for i in range(len(dimensions))))
        for name, dimension in zip(names, dimensions, strict=True):
            size = x.shape[dimension]
            alike = [i for i, axis in enumerate(axes) if axis.name == name and axis.size % size == 0]
            if alike:
                axis = axes[alike[0]]
                places = (*axis.places, (index, dimension, size / axis.size))
                axes[alike[0]] = Axis(axis.name, axis.size, places)
            else:
                taken = {axis.name for axis in axes}
                unused = next(
                    n for n in itertools.chain([name], (f"{name} {i}" for i in itertools.count(2))) if n not in taken
                )
                axes.append(Axis(unused, size, ((index, dimension, 1.0),)))
    return axes


def resized(example: Sequence[Tensor], axes: Sequence[Axis], sizes: Sequence[int]) -> list[Tensor]:
    """Return inputs of other sizes, made of the numbers of an example, which are repeated or left out."""
    inputs = list(example)
    for axis, size in zip(axes, sizes, strict=True):
        for index, dimension, share in axis.places:
            x = inputs[index]
            places = torch.arange(max(1, round(size * share))) % x.shape[dimension]
            inputs[index] = x.index_select(dimension, places)
    return inputs


def shown(sizes: Sequence[int]) -> str:
    """Return sizes as text: "96×128"."""
    return "×".join(map(str, sizes))


@dataclass(frozen=True)
class Domain:
    """Sizes that a network runs at.

    Attributes:
        steps: of each axis, the step from one size to the next.
        rests: of each axis, what a size is beside a multiple of the step.
        least: of all axes alike, the smallest number of steps.
    """

    steps: tuple[int, ...]
    rests: tuple[int, ...]
    least: int

    def sizes(self, counts: Sequence[int]) -> tuple[int, ...]:
        """The sizes of so many steps of each axis."""
        return tuple(r + c * s for r, c, s in zip(self.rests, counts, self.steps, strict=True))

    def counts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many steps sizes are; rounded down."""
        return tuple((size - r) // s for size, r, s in zip(sizes, self.rests, self.steps, strict=True))


def domain_of(model: nn.Module, example: Sequence[Tensor], axes: Sequence[Axis], factor: int) -> Domain:
    """Find sizes that a model runs at, by running it.

    Args:
        factor: a step is this many times the smallest at which the model runs.

    Raises:
        ValueError: it runs at no other size; it names the layer that fails.
    """
    trial = _Trial(model, example, axes)
    steps = tuple(factor * trial.step(index) for index in range(len(axes)))
    rests = tuple(axis.size % step for axis, step in zip(axes, steps, strict=True))
    domain = Domain(steps, rests, 0)
    most = min(domain.counts([axis.size for axis in axes]))
    least = next((c for c in range(most + 1) if trial.runs(domain.sizes([c] * len(axes)))), most)
    return Domain(steps, rests, least)


def samples(domain: Domain, example: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield numbers of steps at which the network is compiled: enough of them to tell formulas of sizes apart.

    Args:
        example: its sizes.
    """
    axes = range(len(domain.steps))
    wanted = [-(-max(3 * step, _SMALL) // step) for step in domain.steps]
    base = [max(domain.least, min(count, have)) for count, have in zip(wanted, domain.counts(example), strict=True)]
    offsets = [*itertools.product((0, 1), repeat=len(axes)), tuple(i + 2 for i in axes), tuple(3 - i % 3 for i in axes)]
    for offset in offsets:
        yield tuple(b + o for b, o in zip(base, offset, strict=True))


@dataclass
class _Trial:
    model: nn.Module
    example: Sequence[Tensor]
    axes: Sequence[Axis]

    def runs(self, sizes: Sequence[int]) -> bool:
        """Whether the model takes these sizes."""
        return self._error(sizes) is None

    def _error(self, sizes: Sequence[int]) -> ValueError | None:
        if min(sizes) < 1:
            return ValueError("an empty image")
        inputs = [x[:1] for x in resized(self.example, self.axes, sizes)]
        try:
            with as_it_was(self.model):
                run_or_raise(self.model, inputs, f"a size of {shown(sizes)}", "")
        except ValueError as error:
            return error
        return None

    def step(self, index: int) -> int:
        """The smallest step along an axis at which the model runs three times."""
        sizes = [axis.size for axis in self.axes]

        def at(size: int) -> list[int]:
            return [*sizes[:index], size, *sizes[index + 1 :]]

        for step in _STEPS:
            if all(self.runs(at(sizes[index] + count * step)) for count in (1, 2, 3)):
                return step
        larger = at(sizes[index] + _STEPS[6])
        place = _where_it_fails(self.model, resized(self.example, self.axes, larger))
        axis = self.axes[index]
        why = str(self._error(larger)).rstrip(" .")
        raise ValueError(
            f"the model cannot be deployed for any size: its {axis.name} is fixed at {axis.size} by {place}: {why}. "
            "Let the layer follow the size (a mean over all places in front of a linear layer, no table of positions), "
            f"deploy it for one size, without sizes=, {PARTIAL}."
        )


def _where_it_fails(model: nn.Module, inputs: Sequence[Tensor]) -> str:
    """The innermost module that was at work when the forward failed."""
    at_work: list[str] = []
    parts = {
        f"{path} ({type(module).__name__})" if path else f"the forward of {type(module).__name__}": module
        for path, module in model.named_modules()
    }

    def ends(*_: object) -> None:
        at_work.pop()

    try:
        with as_it_was(model), hooked(parts, lambda name, *_: at_work.append(name), ends):
            run_or_raise(model, inputs, "another size", "")
    except ValueError:
        pass
    return at_work[-1] if at_work else "its forward"
