"""Few-bit gradients as docs/numerics says, in plain NumPy: noise, codes, and the products on them; see oracle.py.

Nothing here is taken from the package, and nothing here may call it. Sums are of 64-bit integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oracle import Floats

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


# Codes


def maxima(g: Singles) -> Singles:
    """m of each sample, float32 [B]: 0 below 2^-120, NaN where something is not finite."""
    m: Singles = np.max(np.abs(g), axis=tuple(range(1, g.ndim)))
    m[np.isinf(m)] = np.nan
    m[m < 2.0**-120] = 0
    return m


def _each(per_sample: Singles, like: Singles) -> Singles:
    return per_sample.reshape(-1, *[1] * (like.ndim - 1))


def dorefa_codes(g: Singles, bits: int, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """2i + 1 with i = clamp(⌊fl(fl(g·fl(n/(2m))) + d·2^-16)⌋): odd, −n … n; of samples without NaN."""
    n, m = 2**bits - 1, maxima(g)
    r = np.float32(n) / (2 * np.where(m == 0, np.float32(1), m))
    v = g * _each(r, g) + drawn.astype(np.float32) * np.float32(2.0**-16)
    i: NDArray[np.int64] = np.clip(np.floor(v).astype(np.int64), -(n + 1) // 2, (n - 1) // 2)
    return 2 * i + 1


def signed_codes(g: Singles, bits: int, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """clamp(round(fl(fl(g·fl(q/m)) + d·2^-16))), −q … q; of samples without NaN."""
    q, m = 2 ** (bits - 1) - 1, maxima(g)
    r = np.float32(q) / np.where(m == 0, np.float32(1), m)
    v = g * _each(r, g) + drawn.astype(np.float32) * np.float32(2.0**-16)
    i: NDArray[np.int64] = np.clip(np.rint(v).astype(np.int64), -q, q)
    return i


# Products on codes


def input_gradient(sums: NDArray[np.int64], sigma: Singles, weight_scale: np.float32) -> Singles:
    """fl(fl(D')·fl(σ_s·s_w)), for D' [B, …] in int64."""
    scale = sigma * weight_scale
    gradient: Singles = sums.astype(np.float32) * _each(scale, sums.astype(np.float32))
    return gradient


def fused_multiply_add(x: Singles, y: np.float32, total: Singles) -> Singles:
    """x·y + total, rounded once to float32.

    x·y is exact in float64. The sum is not always: so it is rounded to odd there, and then to float32, which is right
    because float64 has more than two bits in excess.
    """
    with np.errstate(invalid="ignore"):
        product, addend = x.astype(np.float64) * np.float64(y), total.astype(np.float64)
        s = product + addend
        of_addend = s - product
        error = (product - (s - of_addend)) + (addend - of_addend)
    bits = s.view(np.int64)
    is_even = (bits & 1) == 0
    up = np.nextafter(s, np.inf)
    down = np.nextafter(s, -np.inf)
    odd = np.where(is_even & (error > 0), up, np.where(is_even & (error < 0), down, s))
    rounded: Singles = odd.astype(np.float32)
    return rounded


def weight_gradient(sums: NDArray[np.int64], sigma: Singles, input_scale: np.float32) -> Singles:
    """fl(s_x·A), A = fma over the samples in order of fl(D_s)·σ_s, from 0; D_s [B, C_out, …] in int64."""
    total = np.zeros(sums.shape[1:], np.float32)
    for of_sample, step in zip(sums, sigma, strict=True):
        total = fused_multiply_add(of_sample.astype(np.float32), step, total)
    gradient: Singles = input_scale * total
    return gradient


def rank_update(q: NDArray[np.int64], codes: NDArray[np.int64], sigma: Singles, input_scale: np.float32) -> Singles:
    """The same where a sample has one number for each channel: A = fma of q·fl(code·σ_s), q [B, in], codes [B, out]."""
    total = np.zeros((codes.shape[1], q.shape[1]), np.float32)
    for inputs, of_sample, step in zip(q.astype(np.float32), codes.astype(np.float32), sigma, strict=True):
        for output, value in enumerate(of_sample * step):
            total[output] = fused_multiply_add(inputs, value, total[output])
    gradient: Singles = input_scale * total
    return gradient


def bias_gradient(codes: NDArray[np.int64], sigma: Singles) -> Singles:
    """fma over the samples in order of fl(Σ codes)·σ_s, for codes [B, C, …]."""
    sums = codes.reshape(*codes.shape[:2], -1).sum(-1)
    return weight_gradient(sums, sigma, np.float32(1))


def largest_difference(magnitudes: NDArray[np.int64], sigma: Singles, input_scale: np.float32) -> Floats:
    """How far sums of scaled floats in another order may be from `weight_gradient`.

    B·2^-22·Σ_s σ_s·(Σ|i·q|)·s_x, for the inner sums [B, …]: their terms may cancel, and what each rounds stays.
    """
    worth = sigma.astype(np.float64).reshape(-1, *[1] * (magnitudes.ndim - 1))
    bound: Floats = len(sigma) * 2.0**-22 * (magnitudes * worth).sum(0) * float(input_scale)
    return bound
