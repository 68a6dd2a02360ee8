"""Weight codes in as many bits as they have: the canonical order of packed weights.

A weight code of k bits is an odd integer c, −n ≤ c ≤ n, n = 2^k − 1 (±1 at one bit), stored as m = (c + n)/2; or, on
the signed grid, any integer c, −2^(k−1) ≤ c ≤ 2^(k−1) − 1, stored as m = c + 2^(k−1). Either way 0 ≤ m ≤ n. The
weights of one output channel follow each other in the order (kernel_h, kernel_w, in_channels/groups), the last index
fastest; weight i occupies the bits i·k … (i+1)·k − 1 of the channel's row, bit b of a row being bit b % 8 of its byte
b // 8. Each row starts at a byte, and the bits that fill up its last byte are zero. The order is the same on every
machine; the kernels' own orders are made from it at load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import _native
from bitorch_runtime.arguments import Array, check_array, check_bits, check_choice, check_integer
from bitorch_runtime.operation_keys import WEIGHT_GRID
from bitorch_runtime.reference import code_line

#: The grids of weight codes.
GRIDS = tuple(choice.value for choice in WEIGHT_GRID.choices)


def pack_weights(codes: Array, bits: int, grid: str = "odd") -> NDArray[np.uint8]:
    """Pack weight codes, ``weight`` of the operations ``conv2d`` and ``linear``.

    Args:
        codes: of any integer dtype: [out_features, in_features] of a linear layer, or PyTorch's
            [out_channels, in_channels/groups, kernel_h, kernel_w] of a convolution.
        bits: 1 to 8.
        grid: "odd": the codes are odd integers in [−n, n], n = 2^bits − 1; "signed": integers in
            [−2^(bits − 1), 2^(bits − 1) − 1]. The operation's ``weight_grid``.

    Returns:
        uint8 [out_channels, ceil(weights per channel · bits / 8)].

    Raises:
        TypeError: `codes` is no array of integers, `bits` no int, or `grid` no str.
        ValueError: `codes` has a code that is not on the grid, or fewer than two dimensions; `bits` is out of range;
            there is no such grid.
    """
    return pack_named("codes", codes, check_bits("bits", bits), check_choice("grid", grid, GRIDS))


def pack_named(name: str, codes: Array, bits: int, grid: str) -> NDArray[np.uint8]:
    """`pack_weights` for an argument called `name`."""
    if not isinstance(codes, np.ndarray):
        raise TypeError(f"{name}: must be a NumPy array of integers, not {type(codes).__name__}")
    if codes.dtype.kind not in "iu":
        raise TypeError(f"{name}: the dtype is {codes.dtype}, but weight codes are integers")
    if codes.ndim < 2:
        raise ValueError(
            f"{name}: the shape is {codes.shape}, but must have two or more dimensions, output channels first"
        )
    check_grid(name, codes, bits, grid)
    step, lowest = code_line(bits, grid)
    last = np.moveaxis(codes, 1, -1)  # channels last: [N, kernel_h, kernel_w, C/groups]
    m = (last.astype(np.int16) - lowest) // step
    return _native.pack_weights(
        np.ascontiguousarray(m.astype(np.uint8)).reshape(len(codes), math.prod(codes.shape[1:])), bits
    )


def check_grid(name: str, codes: Array, bits: int, grid: str) -> None:
    """Raise a ValueError unless every code is on the grid."""
    step, lowest = code_line(bits, grid)
    highest = lowest + step * (2**bits - 1)
    wrong = codes > highest
    if grid == "odd":
        wrong |= (codes & 1) == 0
    if codes.dtype.kind == "i":  # a comparison of unsigned codes with a negative number would be one of floats
        wrong |= codes < lowest
    if not wrong.any():
        return
    position = tuple(int(i) for i in np.argwhere(wrong)[0])
    kind = "odd integers" if grid == "odd" else "integers"
    rule = "must be ±1" if (bits, grid) == (1, "odd") else f"must be {kind} from {lowest} to {highest}"
    advice = "" if grid == "odd" else " on the signed grid"
    raise ValueError(f"{name}: {int(codes[position])} at {position}, but {bits}-bit weight codes{advice} {rule}")


def unpack_weights(packed: NDArray[np.uint8], bits: int, shape: Sequence[int], grid: str = "odd") -> NDArray[np.int16]:
    """Return the weight codes behind packed weights: the reverse of `pack_weights`.

    Args:
        packed: uint8 [out_channels, row_bytes].
        bits: 1 to 8.
        shape: of the codes, (out_features, in_features) or (out_channels, in_channels/groups, kernel_h, kernel_w).
        grid: "odd" or "signed".

    Returns:
        int16, of this shape.

    Raises:
        TypeError: `packed` is no array of uint8, `bits` no int, `shape` no sequence of ints, or `grid` no str.
        ValueError: `packed` does not have the size of such weights, or a bit that fills up a row is not zero; `bits` is
            out of range; `shape` has a negative size or fewer than two; there is no such grid.
    """
    bits = check_bits("bits", bits)
    step, lowest = code_line(bits, check_choice("grid", grid, GRIDS))
    if not isinstance(shape, Sequence) or isinstance(shape, (str, bytes)):
        raise TypeError(f"shape={shape!r}: must be a tuple or list of ints, not {type(shape).__name__}")
    sizes = tuple(check_integer("shape", size, 0, 2**48) for size in shape)
    if len(sizes) < 2:
        raise ValueError(f"shape={sizes}: must have two or more dimensions, output channels first")
    columns = math.prod(sizes[1:])
    rows = check_array("packed", packed, ["uint8"], (sizes[0], -(-columns * bits // 8)))
    _check_fill(rows, columns * bits % 8)
    m = _native.unpack_weights(np.ascontiguousarray(rows), bits, columns)
    codes = np.int16(step) * m.astype(np.int16) + np.int16(lowest)
    last = codes.reshape(sizes[0], *sizes[2:], sizes[1])
    return np.ascontiguousarray(np.moveaxis(last, -1, 1))


def _check_fill(rows: NDArray[np.uint8], used: int) -> None:
    """Raise a ValueError unless the bits after the first `used` ones of each row's last byte are zero.

    Others are a sign of rows of another shape or another order. Full last bytes have `used` 0.
    """
    if used == 0:
        return
    wrong = np.flatnonzero(rows[:, -1] >> used)
    if len(wrong) > 0:
        raise ValueError(
            f"packed: the last byte of row {int(wrong[0])} is {int(rows[wrong[0], -1])}, but its upper {8 - used} "
            f"{'bit fills' if used == 7 else 'bits fill'} up the row and must be zero"
        )
