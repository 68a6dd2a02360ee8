"""From codes to floats and to other codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers, levels


def table_entries(codes: Integers, table: NDArray[Any]) -> NDArray[Any]:
    """table[q], or table[c, q] for a table of [C, levels]: codes [B, H, W, C]."""
    entries: NDArray[Any] = table[codes] if table.ndim == 1 else table[np.arange(len(table)), codes]
    return entries


def lookup(codes: Integers, table: NDArray[np.uint8]) -> Integers:
    """`table_entries` of a table of codes."""
    return table_entries(codes, table).astype(np.int64)


def dequantize(codes: Integers, bits: int, sign: bool = False, scale: float | None = None) -> Floats:
    """q/n; with a scale q·scale; with `sign` 2q − 1 in place of q, and nothing to divide by."""
    q: Floats = (2 * codes - 1 if sign else codes).astype(np.float32)
    if scale is not None:
        q = q * np.float32(scale)
    elif not sign:
        q = q / np.float32(levels(bits))
    return q
