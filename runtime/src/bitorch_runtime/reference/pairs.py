"""Functions of two tensors, number by number, each repeated along the axes where it has one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from .basics import Floats, Operation
from .rows import with_rows
from .stages import relu
from .tensor import Arrays, Tensor, Tensors, leaving


def _lesser(a: Floats, b: Floats) -> Floats:
    """a where it is below b or NaN, else b: of zeros b."""
    y: Floats = np.where((a < b) | np.isnan(a), a, b)
    return y


def _greater(a: Floats, b: Floats) -> Floats:
    """a where it is above b or NaN, else b: of zeros b."""
    y: Floats = np.where((a > b) | np.isnan(a), a, b)
    return y


FUNCTIONS: Mapping[str, Callable[[Floats, Floats], Floats]] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "minimum": _lesser,
        "maximum": _greater,
    }
)


def _as_many_axes(names: list[str], tensors: Tensors) -> list[Floats]:
    """Tensors [B, *rows, C] with as many row axes as the one that has most."""
    values = [tensors[name].values for name in names]
    count = max(x.ndim for x in values) - 2
    return [with_rows(x, count) for x in values]


def pair(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """Apply sub, mul, div, minimum or maximum."""
    a, b = _as_many_axes(operation["inputs"], tensors)
    return {operation["output"]: Tensor(FUNCTIONS[operation["op"]](a, b))}


def add(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """Apply add, and what may follow the sum."""
    a, b = _as_many_axes(operation["inputs"], tensors)
    total = FUNCTIONS["add"](a, b)
    return leaving(operation, arrays, relu(total) if operation.get("relu", False) else total)


def where(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """Apply where: the first input where the condition is not 0, else the second."""
    a, b, condition = _as_many_axes([*operation["inputs"], operation["condition"]], tensors)
    return {operation["output"]: Tensor(np.where(condition != 0, a, b))}


def constant(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """Apply constant: an array [*rows, C] or [C], for each image of the batch."""
    values = arrays[operation["values"]]
    batch = len(next(iter(tensors.values())).values)
    image = values.reshape(1, 1, 1, -1) if values.ndim == 1 else values[np.newaxis]
    return {operation["output"]: Tensor(np.repeat(image, batch, axis=0))}
