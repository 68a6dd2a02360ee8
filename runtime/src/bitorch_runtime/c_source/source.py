"""A header in C99 of a network: everything that it computes, and all of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from bitorch_runtime.program import Program

from .body import Body
from .constants import Constants
from .emitting import EMITTERS, check_all
from .header import NOT_MEASURED, Sizes, plain, write_header
from .measuring import Measured
from .memory_plan import Buffer, Plan, peak, plan
from .names import check_name
from .places import Places
from .ports import Port, ports_of
from .read_codes import with_codes_read
from .sizing import of_one_size
from .tensors import CTensor, tensors_of


@dataclass(frozen=True)
class CSource:
    """A header.

    Attributes:
        text: of the file.
        constant_bytes: of weights, thresholds and tables.
        arena_bytes: of the memory that tensors share.
        float_weights: layers that keep floats, with the bytes of their weights.
    """

    text: str
    constant_bytes: int
    arena_bytes: int
    float_weights: dict[str, int]


class ArenaError(ValueError):
    """The arena is larger than it may be."""


def c_source(
    operations: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    name: str = "net",
    *,
    shapes: Sequence[Sequence[int]] | None = None,
    info: Mapping[str, Any] | None = None,
    arena_limit: int | None = None,
) -> CSource:
    """Write a program as a header.

    Args:
        operations, arrays: as `bitorch_runtime.Program` takes them.
        name: that its functions and constants begin with, a name of C.
        shapes: of one image of each input, where the program leaves sizes open.
        info: what a packed file says besides: class names, preprocessing.
        arena_limit: the most bytes that tensors may take; None: any.

    Raises:
        TypeError: `name` is no text.
        ValueError: `name` is no name of C, an operation has no C, sizes are open or do not fit, or the arena is larger
            than `arena_limit`; the message says how large it is, and which operation makes it so.
    """
    check_name(name)
    check_all(operations)
    sized, given = of_one_size(operations, arrays, shapes)
    planned = Program(sized, given)
    tensors = tensors_of(planned, sized)
    ports = ports_of(sized, tensors, planned)
    bodies, constants, places = _bodies(with_codes_read(sized), given, tensors, ports)
    buffers = [*places.buffers(), *_scratch(bodies)]
    arena = plan(buffers)
    _check_arena(arena, buffers, bodies, arena_limit)
    floats = _float_weights(sized, given)
    sizes = Sizes(constants.nbytes, arena.nbytes, floats)
    text = write_header(name, ports, bodies, constants, _Where(places, arena), sizes, dict(info) if info else {})
    return CSource(text, constants.nbytes, arena.nbytes, floats)


def with_measured(source: CSource, found: Measured) -> CSource:
    """Return a header that says how large its code is, and how deep its stack."""
    lines = [f"code: {found.code} bytes by {plain(found.compiler)}"]
    if found.stack is not None:
        lines.append(f"stack: {found.stack} bytes by the same")
    return replace(source, text=source.text.replace(NOT_MEASURED, "\n * ".join(lines), 1))


def _bodies(
    operations: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    tensors: Mapping[str, CTensor],
    ports: Sequence[Port],
) -> tuple[list[Body], Constants, Places]:
    constants, places = Constants(), Places(operations, tensors)
    for port in ports:
        places.outside(port.buffer, port.name, read_only=port.side == "in")
    bodies = []
    for index, operation in enumerate(operations):
        body = Body(index, operation, tensors, arrays, constants, places)
        EMITTERS[operation["op"]](body)
        bodies.append(body)
    return bodies, constants, places


def _scratch(bodies: Sequence[Body]) -> list[Buffer]:
    return [Buffer(name, nbytes, body.index, body.index) for body in bodies for name, nbytes in body.scratch.items()]


def _check_arena(arena: Plan, buffers: Sequence[Buffer], bodies: Sequence[Body], limit: int | None) -> None:
    if limit is None or arena.nbytes <= limit:
        return
    index, nbytes = peak(buffers, len(bodies))
    body = bodies[index]
    raise ArenaError(
        f"the network needs an arena of {arena.nbytes} bytes, more than the limit of {limit}; {arena.nbytes} would do. "
        f"Most, {nbytes} bytes, is needed by {body.operation['op']} {body.title!r}"
    )


def _float_weights(operations: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    layers = [one for one in operations if one["op"].endswith("_float")]
    titles = [next(one[key] for key in ("codes", "float32") if key in one) for one in layers]
    return {title: arrays[one["weight"]].nbytes for title, one in zip(titles, layers, strict=True)}


class _Where:
    """What a buffer is called in C."""

    def __init__(self, places: Places, arena: Plan) -> None:
        self._places, self._offsets = places, arena.offsets

    def __call__(self, buffer: str) -> str:
        if buffer in self._offsets:
            return f"net_at({self._offsets[buffer]})"
        home = self._places.home(buffer)
        return f"net_at({self._offsets[self._places.key(buffer)]})" if home is None else home
