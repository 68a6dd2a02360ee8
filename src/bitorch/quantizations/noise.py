"""Noise of stochastic rounding that is a function of a key and of an element's place: the same bits on every device.

A generator gives the key alone, 64 bits for each backward pass. Everything else is integer arithmetic, so that the
noise depends neither on strides, nor on threads, nor on how many elements are drawn at once, and a kernel that has the
key can draw it as it goes.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Elements that share a run of 16 words: their low halves are the first 16 elements, their high halves the others.
BLOCK = 32
_WORDS = 16
#: Words are counted in rows of so many, whose numbers differ in their low bits alone.
_ROW = 256


def draw_key(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return the key of one backward pass, int32 [2], k0 and k1: the low and the high half of a draw of 64 bits.

    Args:
        device: where the key is used.
        generator: None takes PyTorch's global one of the device. One of another device gives the same noise there as
            on its own.
    """
    source = device if generator is None else generator.device
    drawn = torch.randint(-(2**63), 2**63 - 1, (1,), device=source, generator=generator)
    return drawn.view(torch.int32).to(device)


def noise(key: Tensor, first: int, samples: int, count: int) -> Tensor:
    """Return U(−½, ½) in units of 2^-16, int16 [samples, count]: odd, so the mean is 0 and no integer is met.

    Word k of block b is h = mix(16b + k). Its low half belongs to element 32b + k, its high half to 32b + 16 + k.
    Sample s has the blocks from s·⌈count/32⌉ on.

    Args:
        key: int32 [2], of `draw_key`.
        first: number of the first sample in the batch.
        samples: how many from there on.
        count: elements of a sample, counted with the channels innermost.
    """
    blocks = -(-count // BLOCK)
    words = _mixed(key, first * blocks * _WORDS, samples * blocks * _WORDS)
    high = words >> 16
    low = words.bitwise_xor_(high)  # the last step of `mix`, which leaves the high half as it is
    halves = [half.to(torch.int16).view(-1, _WORDS) for half in (low, high)]
    drawn = torch.stack(halves, 1).bitwise_or_(1)
    return drawn.view(samples, blocks * BLOCK)[:, :count]


def _mixed(key: Tensor, start: int, count: int) -> Tensor:
    """Return mix(x) of the words from `start` on, int32 [count], without its last two steps.

    mix(x): x ^= k0; x ^= x>>16; x *= 0x7feb352d; x ^= k1 ^ x>>15; x *= 0x846ca68b; x ^= x>>16; x |= 0x00010001,
    of unsigned numbers: int32's shifts bring the sign along, which is masked out.
    """
    k0, k1 = key[0], key[1]
    first, offset = divmod(start, _ROW)  # the words behind number 2^32 − 1 start anew
    numbers = torch.arange(-(-(offset + count) // _ROW), dtype=torch.int32, device=key.device)
    rows = (numbers + first % (2**32 // _ROW)) * _ROW
    # x ^ x>>16 of x = (row | column) ^ k0, with a column below 2^16 that the shift leaves nothing of.
    rows = _folded(rows) ^ _folded(k0)
    columns = torch.arange(_ROW, dtype=torch.int32, device=key.device)
    x = (rows.unsqueeze(1) ^ columns).view(-1)[offset : offset + count]
    x.mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).bitwise_xor_(k1)
    return x.mul_(0x846CA68B - 2**32)


def _folded(x: Tensor) -> Tensor:
    return x ^ ((x >> 16) & 0xFFFF)
