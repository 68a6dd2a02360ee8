"""Inputs, and what stands for nothing or for the unknown."""

from __future__ import annotations

from . import shapes
from .kind import FLAG, TEXT, Kind

ENDS: tuple[Kind, ...] = (
    Kind(
        "input",
        "An argument of the model: float32, or indices of `dtype` int32 or int64. `pixels`: uint8 in place of floats.",
        arity=0,
        settings={"pixels": FLAG, "dtype": TEXT},
    ),
    Kind(
        "identity",
        "Another memory layout, padding by nothing, [F] as [F, 1, 1], [C, L] as [C, 1, L], [1] as a number, and back.",
        shape=shapes.as_many,
    ),
    Kind("unsupported", "What has no other kind; capture tells a problem then.", arity=None),
)
