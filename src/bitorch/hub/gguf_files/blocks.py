"""Integer codes in the blocks of GGUF: a float16 scale beside 32 or 256 codes of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


class BlockType(NamedTuple):
    """A type of GGUF.

    Attributes:
        name: as gguf.GGMLQuantizationType has it.
        low, high: the codes that it holds.
        size: codes of a block, which share a scale.
    """

    name: str
    low: int
    high: int
    size: int


#: From the fewest bits; the first that fits is taken.
BLOCK_TYPES = (
    BlockType("TQ2_0", -1, 1, 256),
    BlockType("Q4_0", -8, 7, 32),
    BlockType("Q5_0", -16, 15, 32),
    BlockType("Q8_0", -128, 127, 32),
)


def block_type(low: int, high: int, shared: int) -> BlockType | None:
    """Return the smallest type that holds codes low … high, `shared` of which in a row have one scale; None without."""
    for kind in BLOCK_TYPES:
        if kind.low <= low and high <= kind.high and shared % kind.size == 0:
            return kind
    return None


def packed(kind: BlockType, codes: Array, scale: Array) -> Array:
    """Return codes in blocks, uint8 [rows, bytes]; the value of a code is itself times its group's scale.

    Args:
        kind: one that holds the codes.
        codes: integers [rows, inputs].
        scale: float16 [rows, groups], of groups of equally many inputs, which are whole blocks.
    """
    rows, inputs = codes.shape
    each = np.repeat(scale.astype("<f2"), inputs // scale.shape[1] // kind.size, axis=1)
    blocks = (codes.astype(np.int16) - kind.low).astype(np.uint8).reshape(-1, kind.size)
    found: Array = _LAYOUTS[kind.name](blocks, each.reshape(-1, 1).view(np.uint8))
    return found.reshape(rows, -1)


def _ternary(blocks: Array, scale: Array) -> Array:
    """Byte i of each half has the codes i, i + 32, i + 64 and i + 96 of it, from its low bits; the scale is last."""
    quarters = blocks.reshape(-1, 2, 4, 32)
    codes = quarters[:, :, 0] | quarters[:, :, 1] << 2 | quarters[:, :, 2] << 4 | quarters[:, :, 3] << 6
    return np.concatenate([codes.reshape(-1, 64), scale], axis=1)


def _four_bits(blocks: Array, scale: Array) -> Array:
    return np.concatenate([scale, _halves(blocks)], axis=1)


def _five_bits(blocks: Array, scale: Array) -> Array:
    """The fifth bits are four bytes in front of the others, code 0 lowest."""
    highest = np.packbits(blocks >> 4, axis=1, bitorder="little")
    return np.concatenate([scale, highest, _halves(blocks & 15)], axis=1)


def _eight_bits(blocks: Array, scale: Array) -> Array:
    return np.concatenate([scale, blocks ^ 128], axis=1)  # the offset of 128 taken off again


def _halves(blocks: Array) -> Array:
    """Byte i has the codes i and i + 16, from its low bits."""
    halves: Array = blocks[:, :16] | blocks[:, 16:] << 4
    return halves


_LAYOUTS: dict[str, Callable[[Array, Array], Array]] = {
    "TQ2_0": _ternary,
    "Q4_0": _four_bits,
    "Q5_0": _five_bits,
    "Q8_0": _eight_bits,
}
