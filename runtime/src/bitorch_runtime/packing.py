"""Weight codes in as many bits as they have: the canonical order of packed weights.

A weight code of k bits is an odd integer c, −n ≤ c ≤ n, n = 2^k − 1 (±1 at one bit). It is stored as m = (c + n)/2,
0 ≤ m ≤ n. The weights of one output channel follow each other in the order (kernel_h, kernel_w, in_channels/groups),
the last index fastest; weight i occupies the bits i·k … (i+1)·k − 1 of the channel's row, bit b of a row being bit b %
8 of its byte b // 8. Each row starts at a byte, and the bits that fill up its last byte are zero. The order is the
same on every machine; the kernels' own orders are made from it at load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import _native
from bitorch_runtime.arguments import Array, check_array, check_bits, check_integer


def pack_weights(codes: Array, bits: int) -> NDArray[np.uint8]:
    """Pack weight codes, ``weight`` of the operations ``conv2d`` and ``linear``.

    Args:
        codes: odd integers in [−n, n], n = 2^bits − 1, of any integer dtype: [out_features, in_features] of a linear
            layer, or PyTorch's [out_channels, in_channels/groups, kernel_h, kernel_w] of a convolution.
        bits: 1 to 8.

    Returns:
        uint8 [out_channels, ceil(weights per channel · bits / 8)].

    Raises:
        TypeError: `codes` is no array of integers, or `bits` no int.
        ValueError: `codes` has a code that is even or beyond ±n, or fewer than two dimensions; `bits` is out of range.
    """
    return pack_named("codes", codes, check_bits("bits", bits))


def pack_named(name: str, codes: Array, bits: int) -> NDArray[np.uint8]:
    """`pack_weights` for an argument called `name`."""
    if not isinstance(codes, np.ndarray):
        raise TypeError(f"{name}: must be a NumPy array of integers, not {type(codes).__name__}")
    if codes.dtype.kind not in "iu":
        raise TypeError(f"{name}: the dtype is {codes.dtype}, but weight codes are integers")
    if codes.ndim < 2:
        raise ValueError(
            f"{name}: the shape is {codes.shape}, but must have two or more dimensions, output channels first"
        )
    check_grid(name, codes, bits)
    n = 2**bits - 1
    last = np.moveaxis(codes, 1, -1)  # channels last: [N, kernel_h, kernel_w, C/groups]
    m = (last.astype(np.int16) + n) >> 1
    return _native.pack_weights(
        np.ascontiguousarray(m.astype(np.uint8)).reshape(len(codes), math.prod(codes.shape[1:])), bits
    )


def check_grid(name: str, codes: Array, bits: int) -> None:
    """Raise a ValueError unless every code is an odd integer in [−n, n]."""
    n = 2**bits - 1
    signed = codes.dtype.kind == "i"  # a comparison of unsigned codes with −n would be one of floats
    wrong = ((codes & 1) == 0) | (codes > n)
    if signed:
        wrong |= codes < -n
    if not wrong.any():
        return
    position = tuple(int(i) for i in np.argwhere(wrong)[0])
    rule = "must be ±1" if bits == 1 else f"must be odd integers from -{n} to {n}"
    raise ValueError(f"{name}: {int(codes[position])} at {position}, but {bits}-bit weight codes {rule}")


def unpack_weights(packed: NDArray[np.uint8], bits: int, shape: Sequence[int]) -> NDArray[np.int16]:
    """Return the weight codes behind packed weights: the reverse of `pack_weights`.

    Args:
        packed: uint8 [out_channels, row_bytes].
        bits: 1 to 8.
        shape: of the codes, (out_features, in_features) or (out_channels, in_channels/groups, kernel_h, kernel_w).

    Returns:
        int16, of this shape.

    Raises:
        TypeError: `packed` is no array of uint8, `bits` no int, or `shape` no sequence of ints.
        ValueError: `packed` does not have the size of such weights, or a bit that fills up a row is not zero; `bits` is
            out of range; `shape` has a negative size or fewer than two.
    """
    bits = check_bits("bits", bits)
    if not isinstance(shape, Sequence) or isinstance(shape, (str, bytes)):
        raise TypeError(f"shape={shape!r}: must be a tuple or list of ints, not {type(shape).__name__}")
    sizes = tuple(check_integer("shape", size, 0, 2**48) for size in shape)
    if len(sizes) < 2:
        raise ValueError(f"shape={sizes}: must have two or more dimensions, output channels first")
    columns = math.prod(sizes[1:])
    rows = check_array("packed", packed, ["uint8"], (sizes[0], -(-columns * bits // 8)))
    _check_fill(rows, columns * bits % 8)
    m = _native.unpack_weights(np.ascontiguousarray(rows), bits, columns)
    codes = 2 * m.astype(np.int16) - np.int16(2**bits - 1)
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
