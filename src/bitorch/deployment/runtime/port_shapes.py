"""The shapes that inputs and outputs of a program have in the model, where these are others than the program's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitorch_runtime._native import Port

#: Where the provenance of older files keeps the shapes that the model has in PyTorch; now the program has them itself.
OLD_KEY = "torch_shapes"


def with_shapes(
    operations: Sequence[Mapping[str, Any]],
    input_ports: Sequence[Port],
    output_ports: Sequence[Port],
    inputs: Sequence[Sequence[int]] | None,
    outputs: Sequence[Sequence[int]] | None,
) -> list[dict[str, Any]]:
    """Return the operations of a program whose inputs and outputs have these shapes; None leaves them as they are.

    Args:
        input_ports, output_ports: of the program as it is.

    Raises:
        ValueError: a shape has not as many numbers as the program's.
    """
    shapes = {"input": _checked("input", input_ports, inputs), "output": _checked("output", output_ports, outputs)}
    return [
        {**operation, **next(shapes[operation["op"]])} if operation["op"] in shapes else dict(operation)
        for operation in operations
    ]


def _checked(side: str, ports: Sequence[Port], shapes: Sequence[Sequence[int]] | None) -> Iterator[dict[str, Any]]:
    """What to say of each port in its operation: nothing of those that have the shape already."""
    if shapes is None:
        return iter([{}] * len(ports))
    if len(shapes) != len(ports):
        raise ValueError(f"{side}_shapes: there must be one for each of the program's {len(ports)}, got {len(shapes)}")
    for port, shape in zip(ports, shapes, strict=True):
        if math.prod(shape) != math.prod(port["shape"]):
            raise ValueError(
                f"{side}_shapes: {batch_of(shape)} of {port['name']!r} does not have as many numbers as "
                f"{batch_of(port['shape'])} in the program"
            )
    return iter(
        [
            {} if tuple(shape) == port["shape"] else {"array_shape": list(shape)}
            for port, shape in zip(ports, shapes, strict=True)
        ]
    )


def shapes_of_older_file(shapes: object) -> tuple[list[list[int]] | None, list[list[int]] | None]:
    """Return those of inputs and of outputs.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(shapes, dict) or not all(map(_are_shapes, shapes.values())):
        raise ValueError(f"the provenance has {OLD_KEY}, but they are no lists of shapes")
    return shapes.get("inputs"), shapes.get("outputs")


def _are_shapes(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(shape, list) and all(type(size) is int and 0 < size < 2**31 for size in shape) for shape in value
    )


def batch_of(shape: Sequence[int]) -> str:
    """Return a shape as it is told: "[batch, 3, 8, 8]", "[batch, 3, any, any]" where sizes are open."""
    return f"[{', '.join(['batch', *('any' if size < 0 else str(size) for size in shape)])}]"
