"""One program for every size that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor, nn

from bitorch_runtime.reference.sizes import shape_outside

from .at_size import AtSize, at_size
from .capture.problems import PARTIAL
from .open_sizes import Axis, Domain, axes_of, domain_of, resized, samples, shown
from .runtime.lower import Operation
from .runtime.one_program import AtSteps, FixedSizeError, check_alike, one_program

#: What `deploy` takes: "any", or sizes that are verified.
Sizes = Literal["any"] | Sequence[Sequence[int] | int]
#: Times the step at which the model runs, until one program serves all sizes.
_FACTORS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class AnySize:
    """A program whose sizes are open.

    Attributes:
        operations, arrays: of it.
        example: the model at the size of its example.
        verified: inputs of the sizes that are to be verified, with the model at each.
    """

    operations: list[Operation]
    arrays: dict[str, NDArray[Any]]
    example: AtSize
    verified: list[tuple[list[Tensor], AtSize]]


def any_size(model: nn.Module, example: Sequence[Tensor], sizes: Sizes, *, pixels: bool) -> AnySize:
    """Compile a model at several sizes, and say them all by one program.

    Args:
        model, example, pixels: as of `bitorch.deploy`.
        sizes: "any", or a list of sizes that are verified, each (height, width) or as many numbers as there are.

    Raises:
        ValueError: a layer fixes the size, or a size of the list does not fit; it says which would.
    """
    given = at_size(model, example, pixels=pixels)
    axes = axes_of(example, [_channels(operation) for operation in given.operations if operation["op"] == "input"])
    if not axes:
        raise ValueError("sizes: the example has no size that could be another: it has features only; leave sizes out")
    asked = [] if sizes == "any" else [_asked(one, axes) for one in sizes]
    why: FixedSizeError | None = None
    known = {tuple(axis.size for axis in axes): given}
    for factor in _FACTORS:
        domain = domain_of(model, example, axes, factor)
        search = _Search(model, list(example), axes, domain, pixels, known)
        try:
            return search.result(asked)
        except FixedSizeError as error:
            why = error
        if any(step * 2 > axis.size for step, axis in zip(domain.steps, axes, strict=True)):
            break
    raise ValueError(
        f"the model cannot be deployed for any size: {why}. Let the layer follow the size, deploy it for one size, "
        f"without sizes=, {PARTIAL}."
    ) from why


def _channels(operation: Operation) -> int | None:
    """The dimension of channels in the array of an input, the batch being dimension 0; indices have none."""
    if "below" in operation:
        return None
    shape = shape_outside(operation)
    if len(operation["shape"]) == 1:
        return 1 if len(shape) == 1 else None
    return len(shape) if operation.get("order") == "nhwc" else 1


def _asked(size: Sequence[int] | int, axes: Sequence[Axis]) -> tuple[int, ...]:
    """A size of the list, checked."""
    numbers = (size,) if isinstance(size, int) else tuple(size)
    if len(numbers) != len(axes) or not all(type(number) is int and number > 0 for number in numbers):
        names = ", ".join(axis.name for axis in axes)
        raise ValueError(f'sizes: {size!r} is no size; give "any", or a list of ({names})')
    return numbers


@dataclass
class _Search:
    """The model at sizes of a domain.

    Attributes:
        known: what was compiled, by the sizes of the axes.
    """

    model: nn.Module
    example: list[Tensor]
    axes: list[Axis]
    domain: Domain
    pixels: bool
    known: dict[tuple[int, ...], AtSize]

    def at(self, sizes: tuple[int, ...]) -> AtSize:
        """The model at a size."""
        if sizes not in self.known:
            inputs = resized(self.example, self.axes, sizes)
            try:
                self.known[sizes] = at_size(self.model, inputs, pixels=self.pixels)
            except ValueError as error:
                raise FixedSizeError(f"for {shown(sizes)} {error}") from error
        return self.known[sizes]

    def program_at(self, counts: Sequence[int], least: int = 0) -> AtSteps:
        """The program at so many steps, which are told from the smallest on."""
        sizes = self.domain.sizes(counts)
        at = self.at(sizes)
        steps = tuple(count - least for count in counts)
        return AtSteps(steps, shown(sizes), at.compiled, _with_outputs(at))

    def result(self, asked: Sequence[tuple[int, ...]]) -> AnySize:
        """One program for all.

        Raises:
            FixedSizeError: there is none for this domain.
            ValueError: a size that is asked for does not fit.
        """
        own = tuple(axis.size for axis in self.axes)
        names = [axis.name for axis in self.axes]
        found = [self.domain.counts(own)]
        for counts in samples(self.domain, own):
            check_alike(self.program_at(found[0]), self.program_at(counts))
            found.append(counts)
        found = list(dict.fromkeys(found))
        one_program([self.program_at(counts) for counts in found], names)
        least = self._least(found, names)
        everything = list(dict.fromkeys([*found, (least,) * len(self.axes)]))
        operations, arrays = one_program([self.program_at(counts, least) for counts in everything], names)
        chosen = [self._fitting(size, least) for size in asked]
        sizes = list(
            dict.fromkeys(chosen if chosen else [own, *map(self.domain.sizes, (everything[-1], everything[-2]))])
        )
        verified = [(resized(self.example, self.axes, one), self.at(one)) for one in sizes]
        return AnySize(operations, arrays, self.at(own), verified)

    def _least(self, found: Sequence[Sequence[int]], names: Sequence[str]) -> int:
        """The smallest number of steps whose program is the same one."""
        most = min(min(counts) for counts in found)
        distance, count = 1, self.domain.least
        while count < most:
            try:
                one_program([self.program_at(c) for c in (*found, (count,) * len(self.axes))], names)
            except FixedSizeError:
                count, distance = count + distance, 2 * distance
            else:
                return count
        return most

    def _fitting(self, size: tuple[int, ...], least: int) -> tuple[int, ...]:
        """A size that is asked for, if the program takes it."""
        for axis, number, step, rest in zip(self.axes, size, self.domain.steps, self.domain.rests, strict=True):
            smallest = rest + least * step
            below = number - (number - smallest) % step
            if number < smallest:
                raise ValueError(f"sizes: a {axis.name} of {number} is too small; it must be at least {smallest}")
            if below != number:
                raise ValueError(
                    f"sizes: a {axis.name} of {number} does not fit: it must be {smallest}, {smallest + step}, "
                    f"{smallest + 2 * step} …; the nearest are {below} and {below + step}"
                )
        return size


def _with_outputs(at: AtSize) -> list[Operation]:
    """The operations, with the shapes of all outputs, which a program whose sizes are open must say."""
    graph = at.compiled.graph
    shapes = iter([list(graph[name].shape) for name in graph.outputs])
    return [{**op, "array_shape": next(shapes)} if op["op"] == "output" else op for op in at.operations]
