"""Weight codes in the canonical order of packed files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Integers, levels


def code_line(bits: int, grid: str) -> tuple[int, int]:
    """(step, lowest) of a grid, "odd" or "signed": the stored m, 0 ≤ m ≤ n, is the weight code step·m + lowest."""
    return {"odd": (2, -levels(bits)), "signed": (1, -(1 << (bits - 1)))}[grid]


def pack_weights(codes: NDArray[Any], bits: int, grid: str = "odd") -> NDArray[np.uint8]:
    """Pack weight codes in the canonical order.

    Weight code c is stored as m, 0 ≤ m ≤ n: as (c + n)/2, or on the signed grid as c + 2^(bits − 1). Weight k of a row
    occupies the bits k·bits … (k+1)·bits − 1 of the row, least significant bit first; bit b of a row is bit b % 8 of
    byte b // 8. A row starts at a byte, and the bits that fill up its last byte are zero.

    Args:
        codes: weight codes, [out_channels, …], the last index fastest; of a convolution
            [out_channels, kernel_h, kernel_w, in_channels/groups].

    Returns:
        uint8 [out_channels, ceil(weights per channel · bits / 8)].
    """
    step, lowest = code_line(bits, grid)
    m = (codes.reshape(len(codes), -1).astype(np.int64) - lowest) // step
    row = (m[:, :, np.newaxis] >> np.arange(bits)) & 1  # [out_channels, weights, bits]
    return np.packbits(row.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")


def unpack_weights(packed: NDArray[np.uint8], bits: int, shape: Sequence[int], grid: str = "odd") -> Integers:
    """Return the weight codes behind packed weights, see `pack_weights`.

    Args:
        packed: uint8 [out_channels, row_bytes].
        shape: of one channel's weights, (kernel_h, kernel_w, in_channels/groups) or (in_features,).
        grid: "odd" or "signed".

    Returns:
        int64 [out_channels, *shape].
    """
    count = int(np.prod(shape))
    row = np.unpackbits(packed, axis=1, bitorder="little")[:, : count * bits]
    m = row.reshape(len(packed), count, bits).astype(np.int64) @ (2 ** np.arange(bits, dtype=np.int64))
    step, lowest = code_line(bits, grid)
    return (step * m + lowest).reshape(len(packed), *shape)
