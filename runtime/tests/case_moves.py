"""Random movements, and images of another size, of tensors with one to three axes of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from case_builder import Builder, Known
from case_layers import follow_with_layer

#: A tensor that grows takes at most so many numbers for an image.
MOST_NUMBERS = 6000


def moved(known: Known) -> Known:
    """What is known of the same numbers elsewhere."""
    return Known(known.bits, False, known.exact, known.dyadic)


def _factors(b: Builder, count: int, axes: int) -> list[int]:
    """So many numbers whose product is `count`."""
    factors = []
    for _ in range(axes - 1):
        factors.append(int(b.choose([f for f in range(1, count + 1) if count % f == 0])))
        count //= factors[-1]
    return [*factors, count]


def reshape(b: Builder, name: str, axes: int = 2) -> None:
    """Append a reshape to so many axes of rows, or to a vector."""
    count = math.prod(b.tensors[name].values.shape[1:])
    shape = [count] if axes == 2 and b.chance(0.1) else _factors(b, count, axes + 1)
    b.add({"op": "reshape", "input": name, "output": b.fresh(), "shape": shape}, output=moved(b.known[name]))
    follow_with_layer(b, b.last())


def permute(b: Builder, name: str) -> None:
    """Append a permute of all axes, perhaps with some of 1 in front."""
    count = len(b.rows(name)) + 1
    axes = [int(axis) for axis in b.rng.permutation(count)]
    b.add({"op": "permute", "input": name, "output": b.fresh(), "axes": axes}, output=moved(b.known[name]))
    follow_with_layer(b, b.last())


def take(b: Builder, name: str) -> None:
    """Append a take of places along an axis of rows: a slice, backwards, or any in any order."""
    rows = b.rows(name)
    axis = -int(b.rng.integers(1, len(rows) + 1))
    size = rows[axis]
    style = b.choose(("slice", "backwards", "any"))
    if style == "any":
        indices = b.rng.integers(0, size, int(b.rng.integers(1, min(size, 8) + 3)))
    else:
        first = int(b.rng.integers(0, size))
        indices = np.arange(first, size, int(b.choose((1, 1, 2))))[:: -1 if style == "backwards" else 1]
    operation = {"op": "take", "input": name, "output": b.fresh(), "axis": axis}
    operation["indices"] = b.array("indices", indices.astype(np.int32))
    b.add(operation, output=moved(b.known[name]))
    follow_with_layer(b, b.last())


def pad(b: Builder, name: str, axes: int = 2) -> None:
    """Append a pad along so many axes of rows."""
    known, rows = b.known[name], b.rows(name)
    rows = (*[1] * (axes - len(rows)), *rows)
    mode = b.choose(("constant", "constant", "reflect", "replicate", "circular"))
    room: Sequence[int] = {"reflect": tuple(size - 1 for size in rows), "circular": rows}.get(mode, (3,) * axes)
    padding = [int(b.rng.integers(0, min(most, 3) + 1)) for most in (*room, *room)]
    operation: dict[str, Any] = {"op": "pad", "input": name, "output": b.fresh(), "padding": padding, "mode": mode}
    value = 0.0
    if mode == "constant":
        if b.chance(0.5):
            value = b.choose((-1.25, 0.5, 0.1, 7)) if known.bits is None else int(b.rng.integers(0, 2**known.bits))
            operation["value"] = value
        if b.chance(0.3):
            operation["channels"] = [int(b.choose((0, 1, 3, 8))), int(b.choose((0, 1, 5, 8)))]
    b.add(operation, output=Known(known.bits, False, known.exact, known.dyadic and value != 0.1))
    follow_with_layer(b, b.last())


def resize(b: Builder, name: str) -> None:
    """Append a resize, of the nearest pixels or, of floats, of several."""
    known, rows = b.known[name], b.rows(name)
    mode = "nearest" if known.bits is not None else b.choose(("nearest", "linear", "linear", "cubic"))
    if mode == "cubic" and len(rows) != 2:
        mode = "linear"
    most = MOST_NUMBERS // b.tensors[name].values.shape[-1]
    size = [int(b.choose((1, side, 2 * side, b.rng.integers(1, 2 * side + 2)))) for side in rows]
    while math.prod(size) > max(most, 1):
        size = [max(side // 2, 1) for side in size]
    operation: dict[str, Any] = {"op": "resize", "input": name, "output": b.fresh(), "output_size": size, "mode": mode}
    if mode != "nearest" and b.chance(0.4):
        operation["align_corners"] = b.chance(0.7)
    if mode != "nearest" and not operation.get("align_corners", False) and b.chance(0.4):
        operation["scale"] = [float(b.choose((0.5, 0.7, 1.0, 1.6, 2.0))) for _ in rows]
    b.add(operation, output=Known(known.bits, False, known.exact, known.dyadic and mode == "nearest"))
    follow_with_layer(b, b.last())


def concat_rows(b: Builder, name: str) -> None:
    """Append a concat along an axis of rows of `name` and others like it, perhaps itself."""
    shape, bits = list(b.tensors[name].values.shape), b.known[name].bits
    axis = -int(b.rng.integers(1, len(b.rows(name)) + 1))

    def fits(other: str) -> bool:
        own = list(b.tensors[other].values.shape)
        own[axis - 1] = shape[axis - 1]
        return own == shape and b.known[other].bits == bits

    options = [other for other in b.names(codes=bits is not None, axes=len(b.rows(name))) if fits(other)]
    parts = [name, *(b.choose(options) for _ in range(b.choose((1, 1, 2))))]
    b.rng.shuffle(parts)
    known = [b.known[part] for part in parts]
    result = Known(bits, False, all(k.exact for k in known), all(k.dyadic for k in known))
    b.add({"op": "concat", "inputs": parts, "output": b.fresh(), "axis": axis}, output=result)
