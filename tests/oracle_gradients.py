"""Few-bit gradients as docs/numerics says, in plain NumPy: noise, codes, and the products on them; see oracle.py.

Nothing here is taken from the package, and nothing here may call it. Sums are of 64-bit integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
_WORD = 2**32 - 1


def mix(x: int, k0: int, k1: int) -> int:
    """The hash of a word's number, unsigned 32 bits all of them."""
    x ^= k0
    x ^= x >> 16
    x = x * 0x7FEB352D & _WORD
    x = x ^ k1 ^ x >> 15
    x = x * 0x846CA68B & _WORD
    x ^= x >> 16
    return x | 0x00010001


def key_of(drawn: int) -> tuple[int, int]:
    """k0 and k1 of a draw of 64 bits: its low and its high half."""
    return drawn & _WORD, drawn >> 32 & _WORD


def noise_of(element: int, sample: int, count: int, key: tuple[int, int]) -> int:
    """The noise of an element of a sample that has `count` of them, in units of 2^-16."""
    block, place = divmod(element, 32)
    word = 16 * (sample * -(-count // 32) + block) + place % 16
    h = mix(word & _WORD, *key)
    half = h & 0xFFFF if place < 16 else h >> 16
    return half - 2**16 if half >= 2**15 else half


def channels_innermost(shape: tuple[int, ...], channels: int) -> NDArray[np.int64]:
    """For each element of a sample of that shape: its number where the channels are counted innermost."""
    moved = (*shape[:channels], *shape[channels + 1 :], shape[channels])
    return np.moveaxis(np.arange(int(np.prod(shape))).reshape(moved), -1, channels)


def noise(shape: tuple[int, ...], channels: int, key: tuple[int, int]) -> NDArray[np.int64]:
    """The noise of a gradient [batch, …], whose channels are in axis `channels`."""
    numbers = channels_innermost(shape[1:], channels - 1)
    drawn = np.empty(shape, np.int64)
    for place in np.ndindex(*shape):
        drawn[place] = noise_of(int(numbers[place[1:]]), place[0], numbers.size, key)
    return drawn
