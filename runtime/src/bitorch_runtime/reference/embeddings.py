"""Rows of tables, by index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .packed_weights import code_line, unpack_weights


def embedding(indices: Integers, table: Floats) -> Floats:
    """Rows of a table.

    Args:
        indices: [B, *rows, 1], each a row of the table.
        table: [N, C].

    Returns:
        float32 [B, *rows, C].
    """
    return table[indices[..., 0]]


def packed_table(
    packed: NDArray[np.uint8],
    bits: int,
    channels: int,
    grid: str,
    scale: NDArray[Any],
    levels: NDArray[Any] | None,
) -> Floats:
    """The floats that a table of packed codes stands for: what each code is worth, times scale, one rounding.

    Args:
        packed: uint8 [N, row_bytes].
        scale: float32 [1] or [N].
        levels: float32 [2^bits], of codes in their order; None: the codes themselves.
    """
    codes = unpack_weights(packed, bits, (channels,), grid)
    step, lowest = code_line(bits, grid)
    worth = codes.astype(np.float32) if levels is None else levels[(codes - lowest) // step]
    table: Floats = worth * scale.reshape(-1, 1)
    return table
