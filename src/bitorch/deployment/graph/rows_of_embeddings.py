"""Rows of tables in the place of indices."""

from __future__ import annotations

from . import shapes
from .kind import INT, TENSOR, TEXT, Kind

EMBEDDINGS: tuple[Kind, ...] = (
    Kind(
        "embedding",
        "Rows of a table, of an input of indices. `table` float32 [N, C]. Of low-bit tables also `codes`, integers as "
        "float32 [N, C], of `weight_bits` on `weight_grid`, `levels` [2^bits], what each code is worth, the lowest "
        "first, and `scale` [1] or [N]: the products are the table.",
        settings={"table": TENSOR},
        geometry={"codes": TENSOR, "weight_bits": INT, "weight_grid": TEXT, "levels": TENSOR, "scale": TENSOR},
        shape=shapes.embedded,
    ),
)
