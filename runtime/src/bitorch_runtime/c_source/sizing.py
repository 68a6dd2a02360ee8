"""A program of one size, of one that leaves sizes open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from bitorch_runtime.program import Program
from bitorch_runtime.reference.sizes import at_shapes

Contents = tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]


def of_one_size(
    operations: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    shapes: Sequence[Sequence[int]] | None,
) -> Contents:
    """Return a program whose inputs have one shape each.

    Args:
        shapes: of one image of each input, where sizes are open.

    Raises:
        ValueError: sizes are open and there are no shapes, or those do not fit.
    """
    planned = Program(operations, arrays)
    if not planned.sizes:
        _check_same(planned, shapes)
        return [dict(operation) for operation in operations], dict(arrays)
    if shapes is None:
        smallest = " and ".join("x".join(str(least) for least, _ in dimensions) for dimensions in planned.sizes)
        raise ValueError(
            f"the network takes images of many sizes, and a header has one: say which with shapes (on the command line "
            f"--size); the smallest is {smallest}"
        )
    if len(shapes) != len(planned.inputs):
        raise ValueError(f"shapes: the network has {len(planned.inputs)} inputs, got shapes for {len(shapes)}")
    for shape, port in zip(shapes, planned.inputs, strict=True):
        if len(shape) != len(port["shape"]):
            raise ValueError(f"shapes: {port['name']!r} has {len(port['shape'])} dimensions, got {list(shape)}")
    return at_shapes(operations, arrays, shapes)


def _check_same(planned: Program, shapes: Sequence[Sequence[int]] | None) -> None:
    known = [tuple(port["shape"]) for port in planned.inputs]
    if shapes is not None and [tuple(shape) for shape in shapes] != known:
        raise ValueError(f"shapes: the network takes {known} and no others; leave them out")
