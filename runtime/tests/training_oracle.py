"""What a step of training computes, in plain NumPy: sums of 64-bit integers, floats rounded one operation at a time.

It follows the contract (`bitorch_runtime.training`) and shares no code with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
F = np.float32


@dataclass
class Layer:
    """A convolution; a linear layer has one pixel and a kernel of one."""

    weight: Integers  # [O, KH, KW, C / groups]
    bits: int
    scale_x: float
    scale_w: float | Floats
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    clips: bool = True
    low: int | None = None  # x holds codes from it on
    groups: int = 1

    def whole(self) -> Integers:
        """The weight [O, KH, KW, C], zeros between groups."""
        outputs, *kernel, channels = self.weight.shape
        whole = np.zeros((outputs, *kernel, channels * self.groups), np.int64)
        for o in range(outputs):
            first = o // (outputs // self.groups) * channels
            whole[o, ..., first : first + channels] = self.weight[o]
        return whole

    def windows(self, x: Integers, out: tuple[int, int]) -> list[tuple[int, int, Integers]]:
        """For each tap the pixels of x, padded by zeros, that it meets: [N, *out, C]."""
        pads, steps = self.padding, self.stride
        padded = np.pad(x, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)))
        taps = np.ndindex(*self.weight.shape[1:3])
        return [
            (
                u,
                v,
                padded[:, u : u + steps[0] * out[0] : steps[0], v : v + steps[1] * out[1] : steps[1]][
                    :, : out[0], : out[1]
                ],
            )
            for u, v in taps
        ]

    def out(self, x: tuple[int, ...]) -> tuple[int, int]:
        sizes = [(x[1 + i] + 2 * self.padding[i] - self.weight.shape[1 + i]) // self.stride[i] + 1 for i in range(2)]
        return sizes[0], sizes[1]

    def codes(self, x: Floats) -> Integers:
        if self.low is not None:
            return np.clip(x, self.low, self.low + 2**self.bits - 1).astype(np.int64)
        q: Integers = np.rint(np.clip(x, F(0), F(1)) * F(2**self.bits - 1)).astype(np.int64)
        return q

    def forward(self, x: Floats, bias: Floats | None = None) -> Floats:
        q, weight = self.codes(x), self.whole()
        sums = sum(q_tap @ weight[:, u, v].T for u, v, q_tap in self.windows(q, self.out(x.shape)))
        y: Floats = np.asarray(sums).astype(F) * (F(self.scale_x) * np.asarray(self.scale_w, F))
        return y if bias is None else y + bias

    def grad_x(self, x: Floats, codes: Integers, scale: Floats) -> Floats:
        out, pads, steps = self.out(x.shape), self.padding, self.stride
        n, rows, columns, channels = x.shape
        weight = self.whole()
        sums = np.zeros((n, rows + 2 * pads[0], columns + 2 * pads[1], channels), np.int64)
        for u, v in np.ndindex(*self.weight.shape[1:3]):
            part = sums[
                :, u : u + steps[0] * (out[0] - 1) + 1 : steps[0], v : v + steps[1] * (out[1] - 1) + 1 : steps[1]
            ]
            part += codes @ weight[:, u, v]
        inner = sums[:, pads[0] : pads[0] + rows, pads[1] : pads[1] + columns]
        dx: Floats = inner.astype(F) * (scale * F(self.scale_w))[:, None, None, None]
        return np.where((x >= 0) & (x <= 1), dx, F(0)) if self.clips else dx

    def grad_weight(self, x: Floats, codes: Integers, scale: Floats) -> Floats:
        q, out = self.codes(x), self.out(x.shape)
        one_pixel = self.groups == 1 and self.weight.shape[1:3] == x.shape[1:3] and self.padding == (0, 0)
        sums = np.zeros((*self.weight.shape[:3], x.shape[3]), F)
        for s in range(x.shape[0]):
            for u, v, q_tap in self.windows(q[s : s + 1], out):
                pairs = (codes[s].reshape(-1, codes.shape[3]), q_tap[0].reshape(-1, q.shape[3]))
                if one_pixel:
                    value = codes[s].reshape(-1).astype(F) * scale[s]
                    sums[:, u, v] = fma(pairs[1].astype(F), value[:, None], sums[:, u, v])
                else:
                    sums[:, u, v] = fma((pairs[0].T @ pairs[1]).astype(F), scale[s], sums[:, u, v])
        dw: Floats = F(self.scale_x) * sums
        outputs, channels = self.weight.shape[0] // self.groups, self.weight.shape[3]
        parts = [
            dw[g * outputs : (g + 1) * outputs, ..., g * channels : (g + 1) * channels] for g in range(self.groups)
        ]
        return np.concatenate(parts)

    def grad_bias(self, codes: Integers, scale: Floats) -> Floats:
        sums = np.zeros(codes.shape[3], F)
        for s in range(codes.shape[0]):
            sums = fma(codes[s].sum((0, 1)).astype(F), scale[s], sums)
        return sums


def fma(a: Floats, b: Floats | np.float32, c: Floats) -> Floats:
    """a·b + c, rounded once: the product has 48 bits, and the sum is rounded to at least 64 before it is to 24.

    That is another number only where the bits between are 1 and 39 zeros, or 40 ones.
    """
    wide = np.longdouble
    rounded: Floats = (a.astype(wide) * np.asarray(b).astype(wide) + c.astype(wide)).astype(F)
    return rounded


def draw(key: tuple[int, int], sample: int, numbers: int, index: int) -> int:
    """The noise of one number, in Python's integers."""
    blocks = (numbers + 31) // 32
    block, place = sample * blocks + index // 32, index % 32
    x = (16 * block + place % 16) & 0xFFFFFFFF
    x ^= key[0]
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x = x ^ key[1] ^ x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    x ^= x >> 16
    x |= 0x00010001
    half = x & 0xFFFF if place < 16 else x >> 16
    return half - 2**16 if half >= 2**15 else half


def gradient(g: Floats, bits: int, noise: NDArray[np.int16] | None, grid: str = "odd") -> tuple[Integers, Floats]:
    """Codes of g's shape, and the scale of each sample; noise [N, numbers]."""
    n = 2 ** (bits - 1) - 1 if grid == "signed" else 2**bits - 1
    flat = g.reshape(g.shape[0], -1)
    codes, scales = np.zeros(flat.shape, np.int64), np.zeros(g.shape[0], F)
    for s, row in enumerate(flat):
        if not np.isfinite(row).all():
            codes[s], scales[s] = 0 if grid == "signed" else 1, np.nan
            continue
        most = np.abs(row).max(initial=F(0))
        most = F(0) if most < F(2.0**-120) else most
        drawn = None if noise is None else noise[s].astype(F) * F(2.0**-16)
        codes[s] = (signed_codes if grid == "signed" else odd_codes)(row, n, most if most > 0 else F(1), drawn)
        scales[s] = most / F(n)
    return codes.reshape(g.shape), scales


def odd_codes(row: Floats, n: int, most: np.float32, noise: Floats | None) -> Integers:
    y = row * (F(n / 2) / most)
    i = np.rint(y + F(n / 2)) - (n + 1) // 2 if noise is None else np.floor(y + noise)
    codes: Integers = 2 * np.clip(i.astype(np.int64), -(n + 1) // 2, (n - 1) // 2) + 1
    return codes


def signed_codes(row: Floats, n: int, most: np.float32, noise: Floats | None) -> Integers:
    y = row * (F(n) / most)
    codes: Integers = np.clip(np.rint(y if noise is None else y + noise).astype(np.int64), -n, n)
    return codes
